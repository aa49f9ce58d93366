//! The simulator: options to ports, one thread for each port.
//!
//! Each output has a thread that drives its own copy of the cars, so a port that is blocked or
//! unplugged never holds up another. The copies agree: they follow from the seed and the time.

mod ending;
mod inject;
mod pace;
mod port;
mod rig;
mod target;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::car::Noise;
use crate::error::{Error, Result};
use crate::fault::FaultKind;
use crate::link::{Line, Mqtt, Pty};
use crate::manifest::Manifest;
use crate::options::{Options, Output};
use crate::stop::Stop;
use crate::tiers::devices;
use port::{Origin, Port, PortSummary};
pub use rig::DeviceSummary;
use rig::RigPlan;
use wire::Wire;

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Every device that sent.
    pub devices: Vec<DeviceSummary>,
    /// Device time that was sent: the longest of all ports.
    pub elapsed: Duration,
    /// What did not end well, for the user: a reader that stopped reading, a broker that did not
    /// acknowledge.
    pub problems: Vec<String>,
}

impl Summary {
    /// Samples in all frames that were made.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.devices.iter().map(|d| d.samples).sum()
    }

    /// Frames that were made.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.devices.iter().map(|d| d.frames).sum()
    }

    /// Samples in frames that full buffers refused.
    #[must_use]
    pub fn samples_dropped(&self) -> u64 {
        self.devices.iter().map(|d| d.samples_dropped).sum()
    }

    /// Samples in frames that faults made unreadable or an unplugged line lost.
    #[must_use]
    pub fn samples_hit(&self) -> u64 {
        self.devices.iter().map(|d| d.samples_hit).sum()
    }
}

/// The transport of a port, made and not running yet.
enum Prepared {
    Line(Line),
    Mqtt(Mqtt),
}

type OnPort = Box<dyn Fn(&Path) + Send + Sync>;

/// A simulator whose ports exist, and which does not run yet.
///
/// ```no_run
/// use firmware_sim::{Options, Output, Simulator, Stop};
///
/// let options = Options {
///     outputs: vec![Output::Pty { link: None }],
///     ..Options::default()
/// };
/// let simulator = Simulator::prepare(options)?;
/// println!("open {}", simulator.ports()[0].display());
/// let stop = Stop::new();
/// let running = std::thread::spawn({
///     let stop = stop.clone();
///     move || simulator.run(&stop)
/// });
/// // … read from the port …
/// stop.stop();
/// # drop(running);
/// # Ok::<(), firmware_sim::Error>(())
/// ```
pub struct Simulator {
    options: Options,
    manifest: Option<Manifest>,
    ports: Vec<(Port, Prepared)>,
    paths: Vec<PathBuf>,
    on_port: OnPort,
}

impl Simulator {
    /// Checks the options, makes the pseudo-terminals, opens the ports, creates the manifest.
    ///
    /// # Errors
    /// [`Error::Usage`] if the options make no sense, [`Error::Failed`] if a port or the manifest
    /// cannot be made.
    pub fn prepare(options: Options) -> Result<Self> {
        options.check()?;
        let ports = deal(&options)?;
        check_faults(&options, &ports)?;
        let manifest = options.manifest.as_deref().map(Manifest::create).transpose()?;
        let mut prepared = Vec::new();
        let mut paths = Vec::new();
        for (i, (port, output)) in ports.into_iter().zip(&options.outputs).enumerate() {
            let link = match output {
                Output::Pty { link } => {
                    let pty = Pty::create(link.as_deref())?;
                    paths.push(pty.path().to_owned());
                    Prepared::Line(Line::pty(pty))
                }
                Output::Serial { path } => Prepared::Line(Line::open(path, options.baud)?),
                Output::Mqtt(broker) => {
                    // Another simulator of the same car must not be thrown off the broker.
                    let chance =
                        Noise::new(u64::from(std::process::id()), &format!("{:?}", std::time::SystemTime::now()))
                            .next_u64();
                    let client_id = format!("firmware-sim-{}-{i}-{:08x}", options.cars[0], chance as u32);
                    Prepared::Mqtt(Mqtt::start(broker, &client_id)?)
                }
            };
            prepared.push((port, link));
        }
        Ok(Self { options, manifest, ports: prepared, paths, on_port: Box::new(|_| {}) })
    }

    /// The pseudo-terminals to open, in the order of the outputs: the link where one was asked for.
    #[must_use]
    pub fn ports(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Calls `f` with the path of each pseudo-terminal that is made anew after an unplugging.
    #[must_use]
    pub fn on_new_port(mut self, f: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        self.on_port = Box::new(f);
        self
    }

    /// Runs until the time is over or `stop` is told, then waits until readers have read and
    /// brokers have acknowledged. It blocks; the manifest is complete when it returns.
    ///
    /// # Errors
    /// [`Error::Failed`] if the manifest cannot be written. A reader that stopped reading is no
    /// error here: see [`Summary::problems`].
    pub fn run(self, stop: &Stop) -> Result<Summary> {
        let Self { options, manifest, ports, paths: _, on_port } = self;
        let origin = Origin::new();
        let (options, manifest, origin, on_port) = (&options, manifest.as_ref(), &origin, &on_port);
        let results: Vec<Result<PortSummary>> = std::thread::scope(|scope| {
            let threads: Vec<_> = ports
                .into_iter()
                .zip(&options.outputs)
                .map(|((port, link), output)| {
                    scope.spawn(move || {
                        let wire = match link {
                            Prepared::Line(line) => {
                                Wire::line(output.clone(), line, options.baud, options.block, manifest, on_port)
                            }
                            Prepared::Mqtt(mqtt) => Wire::mqtt(output.clone(), mqtt, manifest, on_port),
                        };
                        let result = port.run(wire, output, options, manifest, origin, stop);
                        if result.is_err() {
                            stop.stop();
                        }
                        result
                    })
                })
                .collect();
            let panicked = || Err(Error::failed("run a port", "its thread panicked"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        if let Some(manifest) = manifest {
            manifest.finish()?;
        }
        let mut summary = Summary::default();
        for result in results {
            let port = result?;
            summary.devices.extend(port.devices);
            summary.problems.extend(port.problem);
            summary.elapsed = summary.elapsed.max(port.elapsed);
        }
        Ok(summary)
    }
}

/// [`Simulator::prepare`] and [`Simulator::run`].
///
/// # Errors
/// Those of the two.
pub fn run(options: Options, stop: &Stop) -> Result<Summary> {
    Simulator::prepare(options)?.run(stop)
}

/// Deals the devices to the outputs in turn. A line names no car, so with several cars each line
/// gets one car only.
fn deal(options: &Options) -> Result<Vec<Port>> {
    let mut ports: Vec<Port> = options.outputs.iter().map(|_| Port { cars: Vec::new(), rigs: Vec::new() }).collect();
    let lines: Vec<usize> = (0..options.outputs.len()).filter(|&i| options.outputs[i].is_line()).collect();
    let cars = options.cars.len();
    let mut turn = 0;
    for (number, car) in options.cars.iter().enumerate() {
        let outputs: Vec<usize> = (0..options.outputs.len())
            .filter(|i| match lines.iter().position(|line| line == i) {
                Some(place) => cars == 1 || place % cars == number,
                None => true,
            })
            .collect();
        if outputs.is_empty() {
            return Err(Error::usage(format!(
                "car {car} has no output: a serial line carries one car only; give a --pty or --serial for each car, or --mqtt"
            )));
        }
        for device in devices(options.tier, options.rate_factor) {
            let port = &mut ports[outputs[turn % outputs.len()]];
            turn += 1;
            let known = port.cars.iter().position(|name| name == car);
            let car_index = known.unwrap_or_else(|| {
                port.cars.push(car.clone());
                port.cars.len() - 1
            });
            port.rigs.push(RigPlan { car: car.clone(), device, car_index, tells_laps: false });
        }
        // Laps are told once for each car, by its first device.
        if let Some(rig) =
            ports.iter_mut().flat_map(|port| &mut port.rigs).find(|rig| &rig.car == car && is_first(rig, options))
        {
            rig.tells_laps = true;
        }
    }
    if let Some(idle) = ports.iter().position(|port| port.rigs.is_empty()) {
        return Err(Error::usage(format!(
            "output {} has nothing to send: there are more outputs than devices",
            idle + 1
        )));
    }
    Ok(ports)
}

fn is_first(rig: &RigPlan, options: &Options) -> bool {
    devices(options.tier, options.rate_factor).first().is_some_and(|first| first.name == rig.device.name)
}

/// A fault that hits nothing is a slip of the finger.
fn check_faults(options: &Options, ports: &[Port]) -> Result<()> {
    for fault in &options.faults {
        let concerned = |port: &Port| port.rigs.iter().any(|rig| fault.concerns(&rig.car, rig.device.name));
        let hit: Vec<&Output> =
            ports.iter().zip(&options.outputs).filter(|(port, _)| concerned(port)).map(|(_, output)| output).collect();
        let name = fault.kind.as_str();
        if hit.is_empty() {
            return Err(Error::usage(format!("fault {name}@{}: no such car or device", fault.when)));
        }
        if matches!(fault.kind, FaultKind::Unplug(_)) && !hit.iter().any(|output| output.is_line()) {
            return Err(Error::usage(format!(
                "fault {name}@{}: only a --pty or a --serial can be unplugged",
                fault.when
            )));
        }
    }
    Ok(())
}
