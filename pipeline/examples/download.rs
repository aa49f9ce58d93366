//! Downloads, decoding on a pool, and batches that are written: I/O, CPU and a sink in one pipeline.
//!
//! `cargo run -p pitwire-pipeline --example download`: it serves its own downloads, on a local port.

// A program for a terminal.
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pitwire_pipeline::{
    Aggregate, Backoff, Bounds, Builder, Error, OnSourceError, Operation, Order, Policy, Progress, Verdict, from_iter,
    quarantine,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const FILES: u64 = 400;
const FILE_BYTES: usize = 16 * 1024;

/// Answers each connection with a file whose bytes are its number; every fiftieth is cut off the first time.
async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let cut = Arc::new(std::sync::Mutex::new(std::collections::HashSet::new()));
    loop {
        let (mut connection, _) = listener.accept().await?;
        let cut = cut.clone();
        tokio::spawn(async move {
            let number = connection.read_u64().await?;
            tokio::time::sleep(Duration::from_millis(5)).await; // the way there and back
            let breaks = number % 50 == 7 && cut.lock().is_ok_and(|mut cut| cut.insert(number));
            let bytes = vec![number as u8; FILE_BYTES];
            connection.write_all(if breaks { &bytes[..100] } else { &bytes }).await
        });
    }
}

/// Fetches a file by its number.
struct Download {
    server: SocketAddr,
}

impl Operation<u64> for Download {
    type Out = Vec<u8>;

    async fn run(&self, number: &mut u64) -> Result<Vec<u8>, Error> {
        let mut connection = TcpStream::connect(self.server).await?;
        connection.write_u64(*number).await?;
        let mut bytes = vec![0; FILE_BYTES];
        connection.read_exact(&mut bytes).await?; // an error if it is cut off: tried again
        Ok(bytes)
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    tokio::spawn(serve(listener));

    let mut builder = Builder::new("download");
    let pool = builder.pool("decode", 2, 4);
    let (lost, mut kept) = quarantine("lost", 16);
    let backoff = Backoff { attempts: 3, first: Duration::from_millis(20), max: Duration::from_millis(200), seed: 44 };
    builder
        .input("numbers", Bounds::items(64))
        .source("files", from_iter(0..FILES), OnSourceError::FailPipeline)
        .chain()
        .stage("download")
        .concurrency(16)
        .order(Order::Completion)
        .on_failure(Policy::quarantine(lost).after_retries(backoff))
        // At most 64 files or 1 MiB wait for the pool.
        .run(Download { server }, Bounds { items: 64, bytes: 1 << 20, weigh: Vec::len })
        .stage("decode")
        .concurrency(4)
        .on_failure(Policy::fail())
        .cpu(
            pool,
            |bytes: &mut Vec<u8>| Ok(bytes.iter().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte))),
            Bounds::items(64),
        )
        .aggregate("batch", Aggregate::new().items(50).age(Duration::from_millis(100)), Bounds::items(4))
        .stage("write")
        .on_failure(Policy::fail())
        .for_each(|batch: Vec<u64>| async move {
            println!("written: {} results", batch.len());
            Ok(())
        });

    let plan = builder.build()?;
    println!("{}\nruns ahead by at most {}\n", plan.graph().to_text(), plan.run_ahead_max());
    let pipeline = plan.start();
    let observer = pipeline.observer();
    let shows = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let progress = Progress::of(&observer.snapshot().sources[0], None);
            println!("{} {progress}", progress.bar(22));
        }
    });

    let ended = pipeline.join().await;
    shows.abort();
    ended.result?;
    println!("{}", Verdict::of(&ended.snapshot));
    let download = ended.snapshot.stage("download").ok_or("there is a stage of this name")?;
    println!("{} downloaded, {} tried again, {} lost", download.given, download.retried, download.quarantined);
    if let Some(lost) = kept.recv().await {
        return Err(format!("file {} was lost: {}", lost.item, lost.error).into());
    }
    let written = ended.snapshot.stage("batch").map_or(0, |batch| batch.taken);
    if written == FILES { Ok(()) } else { Err(format!("{written} of {FILES} were written").into()) }
}
