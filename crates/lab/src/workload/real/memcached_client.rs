//! A client of memcached that asks, waits for the answer, and asks again.

use crate::sys;
use crate::workload::recorder::Recorder;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No answer takes longer than this, however loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    pub keys: usize,
    /// Bytes of each value.
    pub bytes: usize,
    /// Share of requests that store.
    pub sets: f64,
}

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    traffic: Traffic,
    value: Vec<u8>,
    /// Of the answer, and of the request.
    buffer: Vec<u8>,
}

/// An answer that memcached should not have given.
fn unexpected(answer: &[u8]) -> Error {
    let text = String::from_utf8_lossy(answer);
    Error::new(
        ErrorKind::InvalidData,
        format!("memcached answered `{}`", text.trim_end().escape_debug()),
    )
}

impl Client {
    pub fn connect(to: SocketAddr, traffic: Traffic) -> Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            traffic,
            value: vec![b'v'; traffic.bytes],
            buffer: Vec::with_capacity(traffic.bytes + 128),
        })
    }

    /// Store all keys.
    pub fn fill(&mut self) -> Result<()> {
        (0..self.traffic.keys).try_for_each(|key| self.set(key))
    }

    /// One request of the traffic; how long the answer took goes to `latencies`, if there are any to keep.
    pub fn ask(&mut self, rng: &mut ChaCha8Rng, latencies: Option<&mut Recorder>) -> Result<()> {
        let key = rng.random_range(0..self.traffic.keys);
        let sets = rng.random_bool(self.traffic.sets);
        let start = sys::now_ns();
        if sets {
            self.set(key)?;
        } else {
            self.get(key)?;
        }
        if let Some(latencies) = latencies {
            latencies.record(sys::now_ns() - start);
        }
        Ok(())
    }

    fn set(&mut self, key: usize) -> Result<()> {
        self.buffer.clear();
        write!(self.buffer, "set k{key} 0 0 {}\r\n", self.value.len())?;
        self.buffer.extend_from_slice(&self.value);
        self.buffer.extend_from_slice(b"\r\n");
        self.stream.get_mut().write_all(&self.buffer)?;
        match self.line()? {
            b"STORED\r\n" => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn get(&mut self, key: usize) -> Result<()> {
        self.buffer.clear();
        write!(self.buffer, "get k{key}\r\n")?;
        self.stream.get_mut().write_all(&self.buffer)?;
        match self.line()? {
            // A key that was evicted is an answer, too.
            b"END\r\n" => return Ok(()),
            line if line.starts_with(b"VALUE ") => {}
            other => return Err(unexpected(other)),
        }
        // The value, and the ends of its line and of the answer.
        self.buffer.resize(self.value.len() + 2 + 5, 0);
        self.stream.read_exact(&mut self.buffer)?;
        if self.buffer.ends_with(b"\r\nEND\r\n") {
            Ok(())
        } else {
            Err(unexpected(&self.buffer))
        }
    }

    fn line(&mut self) -> Result<&[u8]> {
        self.buffer.clear();
        if self.stream.read_until(b'\n', &mut self.buffer)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(&self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;
    use std::net::TcpListener;

    /// Somebody who gives the same answer to every request, once.
    fn answering(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 256];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer);
        });
        address
    }

    fn ask(sets: f64, answer: &'static [u8]) -> (Result<()>, u64) {
        let traffic = Traffic {
            keys: 1,
            bytes: 3,
            sets,
        };
        let mut client = Client::connect(answering(answer), traffic).expect("accepted");
        let mut latencies = Recorder::new();
        let result = client.ask(&mut ChaCha8Rng::seed_from_u64(1), Some(&mut latencies));
        (result, Recorder::join([latencies]).len())
    }

    #[test]
    fn answers_are_understood_and_timed() {
        for (sets, answer) in [
            (1.0, &b"STORED\r\n"[..]),
            (0.0, &b"VALUE k0 0 3\r\nvvv\r\nEND\r\n"[..]),
            (0.0, &b"END\r\n"[..]),
        ] {
            let (result, timed) = ask(sets, answer);
            assert!(result.is_ok(), "{result:?}");
            assert_eq!(timed, 1);
        }
    }

    #[test]
    fn other_answers_are_errors_that_quote_them() {
        let (result, timed) = ask(0.0, b"SERVER_ERROR out of memory\r\n");
        let err = result.expect_err("no answer").to_string();
        assert_eq!(err, "memcached answered `SERVER_ERROR out of memory`");
        assert_eq!(timed, 0);
        assert!(ask(1.0, b"").0.is_err());
        assert!(ask(0.0, b"VALUE k0 0 9\r\nvvvvvvvvv\r\nEND\r\n").0.is_err());
    }
}
