//! The command's end: through the socket of a running server, otherwise on the store itself.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use node::Node;

use super::protocol::RESPONSE_BYTES_MAX;
use super::{Request, Response, execute, socket};
use crate::config::Config;
use crate::failure::Failure;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Has a request executed by whoever holds the store. An error response becomes a failure.
pub(crate) fn call(config: &Config, request: Request) -> Result<Response, Failure> {
    let data = &config.store.data;
    let response = match socket::with_path(data, |path| UnixStream::connect(path)) {
        Ok(stream) => ask(stream, &request).map_err(|error| unreachable(data, &error))?,
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            on_the_store(config, request)?
        }
        Err(error) => return Err(unreachable(data, &error)),
    };
    match response {
        Response::Error(reason) => Err(Failure::Runtime(reason)),
        response => Ok(response),
    }
}

fn unreachable(data: &Path, error: &io::Error) -> Failure {
    let path = socket::path_in(data);
    Failure::Runtime(format!("no answer from the server at {}: {error}", path.display()))
}

fn ask(mut stream: UnixStream, request: &Request) -> io::Result<Response> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream).take(RESPONSE_BYTES_MAX).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "it stopped before it answered"));
    }
    Ok(serde_json::from_slice(&answer)?)
}

fn on_the_store(config: &Config, request: Request) -> Result<Response, Failure> {
    let data = &config.store.data;
    // A query must not leave a store behind where somebody mistyped the directory's name.
    if request.only_reads() && !data.is_dir() {
        return Err(Failure::Runtime(format!(
            "there is no store in {}; name it with --data or start `wilco serve`",
            data.display()
        )));
    }
    let node = Node::open(config.node_options()).map_err(Failure::runtime)?;
    let response = execute(&node, request);
    node.close();
    Ok(response)
}
