use super::Outcome;
#[derive(clap::Args)]
pub(super) struct Arguments {}
pub(super) async fn run(_: Arguments) -> Outcome {
    Ok(())
}
