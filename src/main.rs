//! The program: arguments → configuration → app → exit code.

fn main() -> std::process::ExitCode {
    pitwire::cli::main()
}
