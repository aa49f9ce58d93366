//! The pipeline as the configuration describes it: its stages, what bounds them, and who stands at its ends.

use super::*;
use crate::chunk::{Chunk, Outgoing};
use crate::decode::{CatalogueRecord, Decode, Remember, SourceSpec};
use crate::item::{FormatName, Item, RawBatch};
use crate::limits::{FLUSHES_BYTES_MAX, FLUSHES_MAX, ITEMS_BYTES_MAX, ITEMS_MAX, RAW_BYTES_MAX, RAW_ITEMS_MAX};
use crate::pipeline::{Bounds, BuildError, Builder, Graph, Plan, Receiver, Sender};
use crate::preprocess::Preprocess;

/// The stages, in the order of the way.
pub(super) struct Stages {
    decode: Decode,
    preprocess: Preprocess,
    chunk: Chunk,
}

/// A pipeline that is built and not started, with its ends.
pub(super) struct Described {
    pub(super) plan: Plan,
    /// One for each source: the serial ports, then MQTT.
    pub(super) senders: Vec<Sender<RawBatch>>,
    pub(super) outlet: Receiver<Outgoing>,
}

/// What the stages are given from outside: they do no I/O.
pub(super) struct Given<'a> {
    pub(super) ledger: &'a Arc<Ledger>,
    pub(super) gauges: &'a [Arc<SourceGauges>],
    /// What `decode` knows already, and whom it tells of news.
    pub(super) known: Vec<CatalogueRecord>,
    pub(super) remember: Remember,
    pub(super) gaps: Gaps,
    pub(super) steps: preprocess::Setup,
    pub(super) swap: Swap,
    pub(super) chunk: Setup,
}

impl Stages {
    /// Stages that have seen nothing yet.
    pub(super) fn new(config: &Config, given: Given<'_>) -> Self {
        let Given { ledger, gauges, known, remember, gaps, steps, swap, chunk } = given;
        let decode = Decode::new(known, remember, config.deliver.durable_within, chunk.gateway.clone()).with_gaps(gaps);
        Self {
            decode: add_sources(decode, config, ledger, gauges),
            preprocess: Preprocess::new(&config.preprocess, steps, swap),
            chunk: Chunk::new(chunk),
        }
    }

    /// The pipeline of these stages between the sources of `config` and delivery.
    pub(super) fn describe(self, config: &Config) -> Result<Described, BuildError> {
        let mut builder = Builder::new("agent");
        let raw = Bounds { items: RAW_ITEMS_MAX, bytes: RAW_BYTES_MAX, weigh: RawBatch::bytes };
        let items = Bounds { items: ITEMS_MAX, bytes: ITEMS_BYTES_MAX, weigh: Item::bytes };
        let flushes = Bounds { items: FLUSHES_MAX, bytes: FLUSHES_BYTES_MAX, weigh: Outgoing::bytes };
        let mut input = builder.input("raw", raw);
        let senders = source_names(config).map(|(kind, name)| input.sender(&format!("{kind} {name}"))).collect();
        let outlet = input
            .chain()
            .stateful(self.decode, items)
            .stateful(self.preprocess, items)
            .note(&config.preprocess.to_string())
            .stateful(self.chunk, flushes)
            .note(&format!("flushes after {:?}", config.deliver.flush_after))
            .outlet("deliver");
        Ok(Described { plan: builder.build()?, senders, outlet })
    }
}

/// The pipeline that `config` describes. Nothing is opened or started.
///
/// # Errors
/// If it cannot be built: two sources of one kind and name, for instance.
pub fn explain(config: &Config) -> Result<Graph, BuildError> {
    let setup = Setup {
        flush_after: config.deliver.flush_after,
        writer: [0; 16],
        live: LiveBoard::new(),
        clocks: Vec::new(),
        remember: Arc::new(|_| {}),
        gateway: Gateway::new(SystemClock::shared(), config.clock.trust),
        priorities: Priorities::new(&config.priority),
        layouts: Layouts::new(&config.layout),
    };
    let (ledger, gauges) = (Ledger::new(), source_gauges(config, SystemClock::shared().now()));
    let steps = preprocess::Setup { ledger: ledger.clone(), counts: Arc::default(), lag: Arc::new(|| Duration::ZERO) };
    let given = Given {
        ledger: &ledger,
        gauges: &gauges,
        known: Vec::new(),
        remember: Arc::new(|_| {}),
        gaps: Gaps::default(),
        steps,
        swap: Swap::default(),
        chunk: setup,
    };
    Ok(Stages::new(config, given).describe(config)?.plan.graph().clone())
}

/// Kind and name of each source: the serial ports, then MQTT.
fn source_names(config: &Config) -> impl Iterator<Item = (&'static str, &str)> {
    let serial = config.source.serial.iter().map(|source| ("serial", &*source.name));
    serial.chain(config.source.mqtt.iter().map(|source| ("mqtt", &*source.name)))
}

pub(super) fn source_gauges(config: &Config, now: Instant) -> Vec<Arc<SourceGauges>> {
    let serial = config.source.serial.iter();
    let serial = serial.map(|s| SourceGauges::new(&s.name, "serial", &s.path.to_string_lossy(), now));
    let mqtt = config.source.mqtt.iter().map(|s| SourceGauges::new(&s.name, "mqtt", &s.url, now));
    serial.chain(mqtt).collect()
}

fn add_sources(mut decode: Decode, config: &Config, ledger: &Arc<Ledger>, gauges: &[Arc<SourceGauges>]) -> Decode {
    let serial = config.source.serial.iter().map(|s| (&s.name, &s.car, &s.device_prefix, s.format));
    let mqtt = config.source.mqtt.iter().map(|s| (&s.name, &s.car, &s.device_prefix, s.format));
    let sources: Vec<(&String, &Option<String>, &String, FormatName)> = serial.chain(mqtt).collect();
    for ((name, car, device_prefix, format), gauges) in sources.into_iter().zip(gauges) {
        let spec = SourceSpec {
            id: ledger.source(name),
            name: name.as_str().into(),
            car: car.as_ref().unwrap_or(&config.car).as_str().into(),
            car_is_fixed: car.is_some(),
            device_prefix: device_prefix.clone(),
            gauges: gauges.clone(),
            ledger: ledger.clone(),
        };
        decode = decode.source(spec, format);
    }
    decode
}

/// What ties the sources to the rest: where data goes in, and how they are told of the end.
pub(super) struct Ends {
    /// One for each source.
    pub(super) senders: Vec<Sender<RawBatch>>,
    pub(super) stop: CancellationToken,
    pub(super) settled: CancellationToken,
}

impl Ends {
    pub(super) fn start_sources(self, agent: &Looker) -> Vec<JoinHandle<()>> {
        let outlet = |(gauges, sender): (&Arc<SourceGauges>, Sender<RawBatch>)| Outlet {
            id: agent.ledger.source(&gauges.name),
            sender: Some(sender),
            gauges: gauges.clone(),
            clock: agent.clock.clone(),
            stop: self.stop.clone(),
            settled: self.settled.clone(),
        };
        let sources = &agent.config.source;
        let mut outlets = agent.sources.iter().zip(self.senders).map(outlet);
        let serial = sources.serial.iter().zip(outlets.by_ref());
        let mut tasks: Vec<JoinHandle<()>> =
            serial.map(|(source, outlet)| tokio::spawn(source::run_serial(source.clone(), outlet))).collect();
        let mqtt = sources.mqtt.iter().zip(outlets);
        tasks.extend(
            mqtt.map(|(source, outlet)| tokio::spawn(source::run_mqtt(source.clone(), agent.agent.clone(), outlet))),
        );
        tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipeline_is_described_from_the_configuration_alone() {
        let text = "car = \"44\"\n[store]\nurl = \"sqlite:///tmp/x.db\"\n[[source.serial]]\nname = \"ecu\"\n\
                    path = \"/dev/ttyACM0\"\n[[source.mqtt]]\nname = \"car\"\nurl = \"mqtt://127.0.0.1:1883\"\n\
                    topics = [\"pitwire/44/#\"]\n";
        let graph = explain(&Config::parse(text).unwrap()).unwrap();
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["serial ecu", "mqtt car", "decode", "preprocess", "chunk", "deliver"]);
        let queues: Vec<&str> = graph.edges.iter().map(|edge| edge.queue.as_str()).collect();
        assert_eq!(queues, ["raw", "decode", "preprocess", "chunk"]);
        assert_eq!(graph.edges[0].from, ["serial ecu", "mqtt car"]);
    }
}
