// The mock's car: every channel is a function of time, so that any stretch can be answered at once.

const LAP_S = 84;

/** 0 on the straight, 1 in the middle of a corner; nine corners a lap. */
function corner(t) {
  const x = ((t % LAP_S) / LAP_S) * 9;
  const phase = x - Math.floor(x);
  return Math.exp(-(((phase - 0.72) / 0.16) ** 2)) * (0.55 + 0.45 * Math.sin(Math.floor(x) * 2.3) ** 2);
}
const speed = (t) => 292 - 205 * corner(t) - 6 * Math.sin(t / 3);
const slope = (t) => (speed(t + 0.05) - speed(t - 0.05)) / 0.1;
const gear = (t) => Math.max(2, Math.min(8, 1 + Math.floor(speed(t) / 37)));
const noise = (t, seed) => {
  const x = Math.sin(t * 127.1 + seed * 311.7) * 43758.5453;
  return x - Math.floor(x) - 0.5;
};
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

const wheel = (k) => (t) => speed(t) * (1 + 0.004 * k) + 3 * noise(t, k);
const tyre = (k) => (t) => 96 + 3 * k + 9 * Math.sin(t / 47 + k) + 6 * corner(t - 2);

/** [device, channel, unit, rate in Hz, value at time t, whether the agent computes it] */
const CAR = [
  ["ecu", "engine.rpm", "rpm", 50, (t) => 4200 + ((speed(t) - 37 * (gear(t) - 1)) / 37) * 3400 + gear(t) * 480 + 60 * noise(t, 1)],
  ["ecu", "engine.oil_temp", "°C", 2, (t) => 108 + 4 * Math.sin(t / 61)],
  ["ecu", "engine.water_temp", "°C", 2, (t) => 92 + 5 * Math.sin(t / 83)],
  ["ecu", "engine.oil_pressure", "bar", 10, (t) => 4.6 + 0.8 * Math.sin(t / 5) + 0.1 * noise(t, 2)],
  ["ecu", "engine.fuel_pressure", "bar", 10, (t) => 5.1 + 0.1 * noise(t, 3)],
  ["ecu", "fuel.level", "kg", 1, (t) => 62 - (t % 600) * 0.03],
  ["ecu", "driver.throttle", "%", 50, (t) => clamp(50 + slope(t) * 2.2, 0, 100)],
  ["ecu", "driver.brake", "bar", 50, (t) => clamp(-slope(t) * 0.9 - 12, 0, 95)],
  ["ecu", "driver.steering", "deg", 50, (t) => 95 * corner(t) * Math.sin(Math.floor(((t % LAP_S) / LAP_S) * 9) * 4) + noise(t, 4)],
  ["ecu", "gearbox.gear", "", 20, gear],
  ["ecu", "battery.voltage", "V", 5, (t) => 13.8 + 0.2 * noise(t, 5)],
  ["chassis", "vehicle.speed", "km/h", 50, speed],
  ["chassis", "wheel.speed_fl", "km/h", 50, wheel(-1)],
  ["chassis", "wheel.speed_fr", "km/h", 50, wheel(1)],
  ["chassis", "wheel.speed_rl", "km/h", 50, wheel(-2)],
  ["chassis", "wheel.speed_rr", "km/h", 50, wheel(2)],
  ["chassis", "accel.lat", "g", 50, (t) => 2.9 * corner(t) * Math.sign(Math.sin(Math.floor(((t % LAP_S) / LAP_S) * 9) * 4 + 0.1)) + 0.25 * noise(t, 6)],
  ["chassis", "accel.lon", "g", 50, (t) => slope(t) / 35 + 0.25 * noise(t, 7)],
  ["chassis", "damper.fl", "mm", 100, (t) => 22 + 9 * noise(t, 8)],
  ["chassis", "damper.fr", "mm", 100, (t) => 22 + 9 * noise(t, 9)],
  ["chassis", "wheel.slip_rear", "%", 50, (t) => clamp(slope(t) * 0.09, 0, 12) + 0.3 * noise(t, 10), true],
  ["chassis", "accel.total", "g", 50, (t) => Math.hypot(2.9 * corner(t), slope(t) / 35), true],
  ["tyres", "tyre.temp_fl", "°C", 4, tyre(0)],
  ["tyres", "tyre.temp_fr", "°C", 4, tyre(1)],
  ["tyres", "tyre.temp_rl", "°C", 4, tyre(2)],
  ["tyres", "tyre.temp_rr", "°C", 4, tyre(3)],
  ["tyres", "tyre.pressure_fl", "bar", 1, (t) => 1.62 + 0.02 * Math.sin(t / 40)],
  ["gps", "gps.lat", "deg", 10, (t) => 45.6156 + 0.004 * Math.sin((t / LAP_S) * 6.283)],
  ["gps", "gps.lon", "deg", 10, (t) => 9.2811 + 0.006 * Math.cos((t / LAP_S) * 6.283)],
  ["gps", "gps.altitude", "m", 10, (t) => 162 + 6 * Math.sin((t / LAP_S) * 12.566)],
  ["gps", "lap.number", "", 0.2, (t) => Math.floor(t / LAP_S) % 60],
];

/** The car's channels; beyond those it has by name, it has as many plain ones as asked for. */
export function makeCar(car, count) {
  const list = CAR.map(([device, channel, unit, rate_hz, at, derived = false]) => ({ car, device, channel, unit, rate_hz, derived, at }));
  for (let i = 0; list.length < count; i += 1) {
    const at = (t) => 50 * Math.sin(t / (1 + (i % 17)) + i) + 4 * noise(t, i);
    list.push({ car, device: `node${1 + Math.floor(i / 128)}`, channel: `sensor.${String(i).padStart(3, "0")}`, unit: "mV", rate_hz: 100, derived: false, at });
  }
  return list.slice(0, count).map((c) => ({ ...c, key: `${c.car}/${c.device}/${c.channel}` }));
}
