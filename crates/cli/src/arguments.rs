//! The command line, as clap reads it. What a setting means and which values are allowed is defined
//! in [`config`](crate::config); here values are text.

use std::path::PathBuf;

use bench::BenchArgs;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

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
}
