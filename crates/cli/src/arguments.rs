//! The command line, as clap reads it. What a setting means and which values are allowed is defined
//! in [`config`](crate::config); here values are text.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bench::BenchArgs;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::failure::{Failure, one_line};
use crate::output;

/// A durable message broker that speaks AMQP 0-9-1. Without a command: serve.
#[derive(Parser, Debug)]
#[command(name = "wilco", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Settings from the command line. They take precedence over the environment, and that over the
/// file.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Settings of the server")]
pub(crate) struct Settings {
    /// Directory of the store [default: ./wilco-data, environment: WILCO_DATA]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// Where to listen for AMQP [default: 127.0.0.1:5672, environment: WILCO_AMQP]
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub(crate) amqp: Option<String>,
    /// Where to listen for HTTP, or off [default: 127.0.0.1:15672, environment: WILCO_HTTP]
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub(crate) http: Option<String>,
    /// Configuration file [default: ./wilco.toml if there is one, environment: WILCO_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Start although parts of the store are gone, and lose what depends on them
    #[arg(long, global = true)]
    pub(crate) accept_loss: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run the broker
    Serve,
    /// Send messages, and learn what became of them
    Send(Box<SendArguments>),
    /// Run a command for each message of a queue
    #[command(after_help = WORK_HELP)]
    Work(Box<WorkArguments>),
    /// Watch a shop in this process: orders, workers that fail, are late or die, and what the shop learns
    Demo {
        /// How many orders
        #[arg(long, value_name = "N", default_value_t = 20)]
        orders: u32,
    },
    /// Say what is known of a message
    Status {
        /// The id of the message
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Print what becomes of everybody's messages, as it happens
    Watch(WatchArguments),
    /// Have a message that has failed, expired or was dropped tried again
    Retry(MessageArguments),
    /// Take a message that waits for a worker out of its queue
    Cancel(MessageArguments),
    /// Make, empty or delete queues
    Queue {
        #[command(subcommand)]
        command: QueueCommand,
    },
    /// Print the completions of a shell, for its start-up file
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, for `man -l -`
    #[command(hide = true)]
    Man,
    /// Load an AMQP 0-9-1 broker, wilco or another, and measure it
    Bench(Box<BenchArgs>),
    /// Check or show the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Manage users, on the running server or in the store
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Manage virtual hosts, on the running server or in the store
    Vhost {
        #[command(subcommand)]
        command: VhostCommand,
    },
    /// Manage permissions, on the running server or in the store
    Permission {
        #[command(subcommand)]
        command: PermissionCommand,
    },
}

/// What the command of `wilco work` gets and says.
const WORK_HELP: &str = "\
The command gets the message's body on standard input, and in its environment WILCO_ID, WILCO_QUEUE,
WILCO_ATTEMPT and each header as WILCO_HEADER_NAME. Its exit code says what became of the message:
  0   processed; standard output, up to 64 KiB, is the result
  75  not now (EX_TEMPFAIL): it is tried again after a while
  any other: failed; standard error is the error text";

/// Which broker.
#[derive(Args, Debug)]
pub(crate) struct Remote {
    /// The broker: amqp://, kafka:// or activemq://HOST1,HOST2; over TLS amqps:// and so on, with
    /// ?cacertfile=PATH and RabbitMQ's other options
    #[arg(
        long,
        env = "WILCO_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    pub(crate) url: String,
    /// Print JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct WatchArguments {
    /// Only of this queue
    pub(crate) queue: Option<String>,
    /// Only what was not processed
    #[arg(long)]
    pub(crate) failures: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Args, Debug)]
pub(crate) struct SendArguments {
    /// The queue
    pub(crate) queue: String,
    /// The message; without it and without --file or --lines, standard input
    #[arg(conflicts_with_all = ["file", "lines"])]
    pub(crate) body: Option<String>,
    /// The content of a file as the message; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "lines")]
    pub(crate) file: Option<PathBuf>,
    /// Each line of a file as a message; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) lines: Option<PathBuf>,
    /// The id of the message: sending it again does not have it processed twice
    #[arg(long, value_name = "ID", conflicts_with = "lines")]
    pub(crate) id: Option<String>,
    /// A header of the messages; repeatable
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Wait until it is known what became of each message; the exit code is 0 only if all were
    /// processed
    #[arg(long)]
    pub(crate) wait: bool,
    /// By when a message must be processed, such as 500ms, 10s or 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) deadline: Option<Duration>,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Args, Debug)]
pub(crate) struct WorkArguments {
    /// The queue
    pub(crate) queue: String,
    /// Messages worked on at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: u16,
    /// How often a message is tried before it has failed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempts: u32,
    /// The wait after the first attempt; it doubles with each
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1s")]
    pub(crate) backoff: Duration,
    /// How long the command may take before it is killed and the message tried again
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) timeout: Option<Duration>,
    /// How long what has begun may take after Ctrl-C, SIGTERM or SIGHUP
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct MessageArguments {
    /// The id of the message
    pub(crate) id: String,
    /// Which queue, if it is in several
    #[arg(long, value_name = "QUEUE")]
    pub(crate) queue: Option<String>,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Subcommand, Debug)]
pub(crate) enum QueueCommand {
    /// Make a queue, unless it is there
    Declare {
        /// Name of the queue
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Remove the messages of a queue that no worker has
    Purge {
        /// Name of the queue
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Delete a queue with its messages
    Delete {
        /// Name of the queue
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// The completions of a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "wilco", &mut text);
    output::text(&String::from_utf8_lossy(&text))
}

/// The manual page, of all commands.
pub(crate) fn manual() -> Result<(), Failure> {
    let mut command = Arguments::command();
    command.build();
    let mut text = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone()).render(&mut text).and_then(|()| {
        let subcommands = command.get_subcommands().filter(|command| !command.is_hide_set());
        subcommands.cloned().try_for_each(|it| clap_mangen::Man::new(it).render(&mut text))
    });
    rendered.map_err(Failure::runtime)?;
    output::text(&String::from_utf8_lossy(&text))
}

/// Reads a time such as `500ms` or `1h 30m`.
fn time(text: &str) -> Result<Duration, String> {
    let time: jiff::SignedDuration =
        text.parse().map_err(|_| "a time is written like 500ms, 10s or 2h".to_owned())?;
    let time = Duration::try_from(time).ok().filter(|time| time.as_millis() > 0);
    time.ok_or_else(|| "a time is at least 1ms".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a header is written NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Say whether the configuration is valid
    Check,
    /// Print the configuration in force, as TOML
    Show,
}

#[derive(Subcommand, Debug)]
pub(crate) enum UserCommand {
    /// Add a user
    Add {
        /// Name of the user
        name: String,
        /// Its password; without it, asked for or read from standard input
        #[arg(long)]
        password: Option<String>,
        /// Give it a tag, such as administrator; repeatable
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
    },
    /// List users
    List(Format),
    /// Delete a user and its permissions
    Delete {
        /// Name of the user
        name: String,
    },
    /// Change a user's password
    Passwd {
        /// Name of the user
        name: String,
        /// Its new password; without it, asked for or read from standard input
        #[arg(long)]
        password: Option<String>,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum VhostCommand {
    /// Add a virtual host
    Add {
        /// Name of the virtual host
        name: String,
    },
    /// List virtual hosts
    List(Format),
    /// Delete a virtual host with everything in it
    Delete {
        /// Name of the virtual host
        name: String,
    },
}

#[derive(Subcommand, Debug, Clone)]
pub(crate) enum PermissionCommand {
    /// Let a user into a virtual host: three regular expressions over the names of queues and
    /// exchanges
    Set {
        /// Name of the virtual host
        vhost: String,
        /// Name of the user
        user: String,
        /// What it may declare and delete
        configure: String,
        /// What it may publish to and bind
        write: String,
        /// What it may consume from and bind to
        read: String,
    },
    /// List permissions
    List(Format),
    /// Keep a user out of a virtual host
    Clear {
        /// Name of the virtual host
        vhost: String,
        /// Name of the user
        user: String,
    },
}

#[derive(Args, Debug, Clone)]
pub(crate) struct Format {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Help and version go to standard output; any other parse error becomes one line instead of clap's
/// paragraphs.
pub(crate) fn report(error: &clap::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::text(&error.render().to_string())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Failure::Usage("a subcommand is missing; try --help".to_owned()))
        }
        _ => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            // The first paragraph says what is wrong; usage and a hint at --help follow.
            let wrong = text.split("\n\n").next().unwrap_or(text);
            Err(Failure::Usage(format!("{}; try --help", one_line(wrong))))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit() {
        let ms = |text| super::time(text).map(|time| time.as_millis());
        assert_eq!([ms("500ms"), ms("10s"), ms("2h")], [Ok(500), Ok(10_000), Ok(7_200_000)]);
        for text in ["", "10", "-1s", "0s", "x"] {
            assert!(ms(text).is_err(), "{text}");
        }
    }
}
