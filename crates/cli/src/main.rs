//! The binary `wilco`: a durable AMQP 0-9-1 broker and the commands around it.
//!
//! Owns the command line, the configuration, what is printed, the exit code, and the control socket
//! through which `wilco user|vhost|permission` reach a running server. Does no broker work: that is
//! done by `node`, and by `server` in front of it; what `send`, `work` and `queue` do is done by the
//! library.

mod administer;
mod arguments;
mod client;
mod config;
mod control;
mod failure;
mod heap;
mod log;
mod output;
mod password;
mod queries;
mod serve;
mod visible;

use std::process::ExitCode;

use arguments::{Arguments, Command, ConfigCommand};
use clap::Parser;
use config::Config;
use failure::Failure;

fn main() -> ExitCode {
    let result = match Arguments::try_parse() {
        Ok(arguments) => run(arguments),
        Err(error) => arguments::report(&error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let settings = &arguments.settings;
    match arguments.command {
        None | Some(Command::Serve) => serve::run(&Config::load(settings)?),
        Some(Command::Config { command: ConfigCommand::Check }) => {
            let (_, file) = Config::load_with_file(settings)?;
            match file {
                Some(file) => output::line(&format!("{} is valid", file.display())),
                None => output::line("there is no configuration file; the settings are valid"),
            }
        }
        Some(Command::Config { command: ConfigCommand::Show }) => {
            output::text(&Config::load(settings)?.to_toml()?)
        }
        Some(Command::Send(send)) => client::send(&send),
        Some(Command::Work(work)) => client::work(&work),
        Some(Command::Demo { orders }) => client::demo(orders),
        Some(Command::Completions { shell }) => arguments::completions(shell),
        Some(Command::Man) => arguments::manual(),
        Some(Command::Status { id, remote }) => client::status(&id, &remote),
        Some(Command::Watch(watch)) => client::watch(&watch),
        Some(Command::Retry(message)) => client::retry(&message),
        Some(Command::Cancel(message)) => client::cancel(&message),
        Some(Command::Queue { command }) => client::queue(&command),
        Some(Command::Bench(bench)) => Ok(bench::run(&bench)?),
        Some(Command::User { command }) => administer::user(&Config::load(settings)?, &command),
        Some(Command::Vhost { command }) => administer::vhost(&Config::load(settings)?, &command),
        Some(Command::Permission { command }) => {
            administer::permission(&Config::load(settings)?, &command)
        }
    }
}
