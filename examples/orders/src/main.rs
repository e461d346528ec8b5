//! A shop whose orders go to stock and to mail, and that knows what became of each.
//!
//! One program with a command for each process: [`shop`], [`stock`] and [`mail`]; `all` is the three of
//! them in one process, and `check` says whether the database agrees with itself. README.md has how to
//! run it.
#![allow(clippy::print_stdout, reason = "a program for the shell: it tells what happens")]

mod database;
mod mail;
mod order;
mod shop;
mod stock;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use wilco::Wilco;

use crate::database::Database;

/// A shop whose orders go to stock and mail, and that knows what became of each.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The engine: amqp://…, embedded:PATH or memory: (the latter two with `all` only). `all` has a broker
    /// in memory unless said otherwise, the others look for one on this machine.
    #[arg(long, global = true)]
    url: Option<String>,
    /// The shop's database: sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE.
    #[arg(long, global = true, default_value = "sqlite:orders.db")]
    database: String,
}

#[derive(Subcommand)]
enum Command {
    /// Places orders, and ends when it is known what became of all of them.
    Shop(ShopArguments),
    /// Takes what was ordered from stock.
    Stock,
    /// Confirms orders by mail.
    Mail,
    /// All three in one process.
    All(ShopArguments),
    /// Says whether orders, stock and mails agree.
    Check,
}

#[derive(Args)]
struct ShopArguments {
    /// How many orders to place. With 0 it only finishes what an earlier shop has left.
    #[arg(long, default_value_t = 20)]
    orders: u64,
    /// The time between two of them, ms.
    #[arg(long, value_name = "MS", default_value_t = 100)]
    every: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // The library says here when it has lost its connection, and the like.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .init();
    let database = Database::open(&arguments.database).await.context("the database")?;
    let default_url = match arguments.command {
        Command::All(_) => "memory:",
        _ => "amqp://guest:guest@localhost",
    };
    let url = arguments.url.as_deref().unwrap_or(default_url);
    let is_alone = matches!(arguments.command, Command::All(_) | Command::Check);
    if !is_alone && (url == "memory:" || url.starts_with("embedded:")) {
        anyhow::bail!("nobody else can use a broker in this process: use `all`, or a server");
    }
    match arguments.command {
        Command::Shop(ShopArguments { orders, every }) => {
            let shop = shop::run(connect(url).await?, database, orders, ms(every));
            // A shop that is stopped leaves its open orders in the database, to the next one.
            tokio::select! {
                ended = shop => ended?,
                () = wilco::signals() => {}
            }
        }
        Command::Stock => {
            let worker = stock::worker(&connect(url).await?, database);
            println!("stock: {}", worker.until(wilco::signals()).await?);
        }
        Command::Mail => {
            let worker = mail::worker(&connect(url).await?, database);
            println!("mail: {}", worker.until(wilco::signals()).await?);
        }
        Command::All(ShopArguments { orders, every }) => {
            let wilco = connect(url).await?;
            let workers = stock::worker(&wilco, database.clone());
            let workers = workers.handle(mail::queue(), mail::confirm);
            tokio::select! {
                ended = shop::run(wilco, database.clone(), orders, ms(every)) => ended?,
                // Without them the shop would wait for ever.
                ended = workers.run() => anyhow::bail!("the workers have ended: {ended:?}"),
                () = wilco::signals() => {}
            }
            return check(&database).await;
        }
        Command::Check => return check(&database).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Connects, and waits for a broker that is not there yet: processes start in any order.
async fn connect(url: &str) -> Result<Wilco, wilco::Error> {
    loop {
        match Wilco::connect(url).await {
            Err(error) if error.is_temporary() => eprintln!("{error}; trying again"),
            connected => return connected,
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn check(database: &Database) -> anyhow::Result<ExitCode> {
    let found = database.check().await?;
    println!("{found}");
    Ok(if found.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
