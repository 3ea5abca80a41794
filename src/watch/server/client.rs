//! A client of the statistics socket: what it has sent, what it has not read yet, and until when.

use std::cmp::Reverse;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::protocol::{Conversation, Targets};

/// What a client may ask of the process.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a request.
    pub line: usize,
    /// Clients at once.
    pub clients: usize,
    /// From the first byte of a request to its last.
    pub half_request: Duration,
    /// From a reply to when all of it is taken.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: 16 << 10,
            clients: 32,
            half_request: Duration::from_secs(5),
            unread: Duration::from_secs(10),
        }
    }
}

/// What the kernel holds of a reply, bytes: so little that it tells us whether it was read. A socket is ready to be written to
/// again once the other side has taken three quarters of that.
const HELD: usize = 2 << 10;

/// Why a client is served no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has gone.
    Gone,
    LongLine,
    HalfRequest,
    Unread,
    /// There are too many.
    Crowded,
}

impl End {
    /// For the log; None: it went by itself.
    pub fn why(self) -> Option<&'static str> {
        match self {
            Self::Gone => None,
            Self::LongLine => Some("its request is too long"),
            Self::HalfRequest => Some("it sent half a request, and no more"),
            Self::Unread => Some("it does not read what it asked for"),
            Self::Crowded => {
                Some("there are too many, and it was silent or in the midst of something")
            }
        }
    }
}

/// How long it may take to read a reply without being suspected.
const GRACE: Duration = Duration::from_secs(1);

/// What a client is worth: the later ones more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It has sent half a request, or is slow to read.
    InTheMidst,
    /// It never asked.
    Silent,
    /// It was given a reply just now.
    Reading,
    /// It has read what it asked for.
    Good,
}

/// A connection.
pub struct Client {
    stream: UnixStream,
    /// What it has sent and we have not looked at.
    sent: Vec<u8>,
    /// When that began.
    sent_since: Option<Instant>,
    /// It sends no more.
    closed: bool,
    reply: Vec<u8>,
    taken: usize,
    /// When it was given the reply that it has not read yet.
    replied: Option<Instant>,
    /// When it last asked for something; None: never.
    asked: Option<Instant>,
    came: Instant,
    conversation: Conversation,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Client {
    pub fn new(stream: UnixStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        set_socket_send_buffer_size(&stream, HELD)?;
        Ok(Self {
            stream,
            sent: vec![],
            sent_since: None,
            closed: false,
            reply: vec![],
            taken: 0,
            replied: None,
            asked: None,
            came: now,
            conversation: Conversation::default(),
        })
    }

    /// What to wait for. As long as it has not taken a reply, nobody looks at what else it wants.
    pub fn awaits(&self) -> PollFlags {
        match self.replied {
            Some(_) => PollFlags::OUT,
            None => PollFlags::IN,
        }
    }

    /// Whether there is a request to be answered, without waiting.
    pub fn has_request(&self) -> bool {
        self.replied.is_none() && (self.closed || self.sent.contains(&b'\n'))
    }

    /// When it is cut off, if nothing changes.
    pub fn deadline(&self, limits: &Limits) -> Option<Instant> {
        match (self.replied, self.sent_since) {
            (Some(replied), _) => Some(replied + limits.unread),
            (None, Some(since)) => Some(since + limits.half_request),
            (None, None) => None,
        }
    }

    /// Who goes first where there are too many: the least. Of one rank, who did anything the longest time ago.
    pub fn worth(&self) -> (Rank, Reverse<Duration>) {
        let late = self.replied.is_some_and(|at| at.elapsed() > GRACE);
        let rank = match (self.asked, self.replied) {
            _ if late || self.sent_since.is_some() => Rank::InTheMidst,
            (None, _) => Rank::Silent,
            (Some(_), Some(_)) => Rank::Reading,
            (Some(_), None) => Rank::Good,
        };
        (rank, Reverse(self.asked.unwrap_or(self.came).elapsed()))
    }

    /// Do what can be done now: hand over, take in, answer one request.
    pub fn turn(
        &mut self,
        ready: PollFlags,
        targets: &Targets,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), End> {
        if ready.intersects(PollFlags::ERR | PollFlags::NVAL) {
            return Err(End::Gone);
        }
        if self.replied.is_some() {
            if !ready.is_empty() && self.hand_over()? {
                self.replied = None;
                // Time that passed while it did not read was not its next request's.
                self.sent_since = (!self.sent.is_empty()).then_some(now);
            }
        } else {
            if !ready.is_empty() && !self.closed {
                self.take_in(limits, now)?;
            }
            if let Some(request) = self.request() {
                self.asked = Some(now);
                self.reply = self.conversation.answer(&request, targets);
                (self.taken, self.replied) = (0, Some(Instant::now()));
                self.hand_over()?;
            } else if self.closed {
                return Err(End::Gone);
            } else if self.sent.len() >= limits.line {
                return Err(End::LongLine);
            }
        }
        match self.deadline(limits) {
            Some(deadline) if now >= deadline => Err(match self.replied {
                Some(_) => End::Unread,
                None => End::HalfRequest,
            }),
            _ => Ok(()),
        }
    }

    /// Read what there is, up to a whole line of the greatest length.
    fn take_in(&mut self, limits: &Limits, now: Instant) -> Result<(), End> {
        let before = self.sent.len();
        let room = limits.line.saturating_sub(before) as u64;
        match (&self.stream).take(room).read_to_end(&mut self.sent) {
            // Less than there was room for, and no word of waiting: it sends no more.
            Ok(read) if (read as u64) < room => self.closed = true,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Err(End::Gone),
        }
        if self.sent.len() > before && self.sent_since.is_none() {
            self.sent_since = Some(now);
        }
        Ok(())
    }

    /// The next request, if it is whole; the last one of who sends no more may lack its end.
    fn request(&mut self) -> Option<Vec<u8>> {
        let end = self.sent.iter().position(|&b| b == b'\n');
        let length = match end {
            Some(end) => end + 1,
            None if self.closed && !self.sent.is_empty() => self.sent.len(),
            None => return None,
        };
        let rest = self.sent.split_off(length);
        let request = std::mem::replace(&mut self.sent, rest);
        self.sent_since = (!self.sent.is_empty()).then(Instant::now);
        Some(request)
    }

    /// Write as much of the reply as the kernel takes. Whether there was nothing left of it.
    fn hand_over(&mut self) -> Result<bool, End> {
        if self.taken == self.reply.len() {
            // The memory of a long one is not kept.
            (self.reply, self.taken) = (vec![], 0);
            return Ok(true);
        }
        while self.taken < self.reply.len() {
            match self.stream.write(&self.reply[self.taken..]) {
                Ok(0) => return Err(End::Gone),
                Ok(written) => self.taken += written,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(End::Gone),
            }
        }
        Ok(false)
    }
}
