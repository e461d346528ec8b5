//! Reads a password: as given, from a terminal without echo, or from a line of standard input.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::failure::Failure;

const PASSWORD_BYTES_MAX: u64 = 4096;

/// The password from the command line, or otherwise from standard input.
pub(crate) fn read(given: Option<&str>, user: &str) -> Result<String, Failure> {
    let password = match given {
        Some(password) => password.to_owned(),
        None if io::stdin().is_terminal() => {
            let first = ask(&format!("Password of {user}: "))?;
            if ask("Once more: ")? != first {
                return Err(Failure::Usage("the two passwords differ".to_owned()));
            }
            first
        }
        None => line()?,
    };
    if password.is_empty() {
        return Err(Failure::Usage("the password is empty".to_owned()));
    }
    Ok(password)
}

fn ask(prompt: &str) -> Result<String, Failure> {
    let mut stderr = io::stderr().lock();
    // A prompt that nobody sees is no reason to fail.
    let _ = stderr.write_all(prompt.as_bytes()).and_then(|()| stderr.flush());
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).map_err(Failure::runtime)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(Failure::runtime)?;
    let line = line();
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before).map_err(Failure::runtime);
    let _ = stderr.write_all(b"\n");
    restored.and(line)
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    let mut stdin = io::stdin().lock().take(PASSWORD_BYTES_MAX);
    stdin
        .read_line(&mut line)
        .map_err(|error| Failure::Runtime(format!("cannot read the password: {error}")))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
