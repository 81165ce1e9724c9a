//! TCP as a case has it: conversations instead of far sides. At the other end of a connection that the plugin opens is
//! one that says what the case says and holds what it hears against it. TLS is a word there: nothing is encrypted.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use cooperage_engine::http::{Error, Line, Stream};
use futures::FutureExt;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::compare::shown;
use crate::exchange::Body;
use crate::problems::Problems;
use crate::veil::Veil;

/// After the call, conversations end by themselves: its connections are closed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are on their way at most, in each direction.
const ON_THE_WAY: usize = 1 << 20;

/// A connection that the plugin opens.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Conversation {
    /// HOST:PORT as the plugin names it.
    pub to: String,
    /// What is said, in its order. At the end the far side waits for the plugin to close the connection.
    #[serde(default)]
    pub exchange: Vec<Turn>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Turn {
    /// The plugin says this.
    Receive {
        /// Exactly these bytes.
        receive: Body,
    },
    /// The far side says this.
    Send {
        /// These bytes.
        send: Body,
    },
    /// Nothing is said.
    Word(Word),
}

/// Words for [`Turn`].
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The plugin begins TLS. What follows is still written as it is meant.
    Tls,
    /// The far side closes the connection.
    Close,
}

/// A far side as cases name it.
pub(crate) fn place(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

enum Step {
    Receive(Vec<u8>),
    Send(Vec<u8>),
    Word(Word),
}

/// The plugin's end of a conversation.
struct Near {
    stream: DuplexStream,
    /// Where it says that it begins TLS; the answer comes if the case has that next.
    handshakes: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

/// The other end.
struct Far {
    stream: DuplexStream,
    handshakes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
}

/// The conversations of a case that have not begun, and those under way.
pub(crate) struct Conversations {
    waiting: Mutex<Vec<(String, Vec<Step>)>>,
    running: Mutex<Vec<JoinHandle<()>>>,
    problems: Problems,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Conversations {
    /// Reads what the turns name.
    pub(crate) fn new(all: &[Conversation], folder: &Path, veil: &Veil, problems: Problems) -> Result<Self, String> {
        let step = |turn: &Turn| {
            Ok(match turn {
                Turn::Receive { receive } => Step::Receive(veil.lifted(&receive.bytes(folder)?)),
                Turn::Send { send } => Step::Send(veil.lifted(&send.bytes(folder)?)),
                Turn::Word(word) => Step::Word(*word),
            })
        };
        let steps = |one: &Conversation| {
            let steps: Result<Vec<_>, String> = one.exchange.iter().map(step).collect();
            Ok::<_, String>((one.to.clone(), steps?))
        };
        let waiting = all.iter().map(steps).collect::<Result<_, _>>()?;
        Ok(Self { waiting: Mutex::new(waiting), running: Mutex::default(), problems })
    }

    /// Begins the next conversation with a place. The error says what else there is.
    pub(crate) fn begin(&self, to: &str) -> Result<Box<dyn Line>, String> {
        let steps = {
            let mut waiting = lock(&self.waiting);
            let Some(at) = waiting.iter().position(|(place, _)| place == to) else {
                let there: Vec<&str> = waiting.iter().map(|(place, _)| place.as_str()).collect();
                let there = if there.is_empty() { "no further connection".to_owned() } else { there.join(", ") };
                return Err(format!(
                    "the plugin opened a connection that the case does not know\n  opened   {to}\n  expected {there}"
                ));
            };
            waiting.remove(at).1
        };
        let (near, far) = tokio::io::duplex(ON_THE_WAY);
        let (asked, handshakes) = mpsc::unbounded_channel();
        let mut far = Far { stream: far, handshakes };
        let (to, problems) = (to.to_owned(), self.problems.clone());
        lock(&self.running).push(tokio::spawn(async move {
            if let Err(problem) = far.converse(steps).await {
                problems.add(format!("the connection to {to}: {problem}"));
            }
        }));
        Ok(Box::new(Near { stream: near, handshakes: asked }))
    }

    /// Waits for all of them; those that never began are problems, too.
    pub(crate) async fn finish(&self) {
        let running = std::mem::take(&mut *lock(&self.running));
        for one in running {
            let stop = one.abort_handle();
            if tokio::time::timeout(PATIENCE, one).await.is_err() {
                stop.abort();
                self.problems.add("a connection of the case stayed open after the call");
            }
        }
        for (to, _) in lock(&self.waiting).drain(..) {
            self.problems.add(format!("the plugin never opened a connection to {to}"));
        }
    }
}

impl Far {
    async fn converse(&mut self, steps: Vec<Step>) -> Result<(), String> {
        for (number, step) in steps.into_iter().enumerate() {
            let turn = number + 1;
            match step {
                Step::Receive(expected) => {
                    self.receive(&expected).await.map_err(|why| format!("turn {turn}{why}"))?;
                }
                Step::Send(bytes) => {
                    // Whoever has closed a connection does not wait for what is said last.
                    let _ = self.stream.write_all(&bytes).await;
                }
                Step::Word(Word::Tls) => self.agree().await.map_err(|why| format!("turn {turn}: {why}"))?,
                Step::Word(Word::Close) => return Ok(()),
            }
        }
        // One read: who says more would wait for an answer.
        let mut more = vec![0; 4096];
        match self.hear(&mut more).await? {
            0 => Ok(()),
            read => Err(format!("at its end the plugin said {} more", text(&more[..read]))),
        }
    }

    /// Waits for bytes; 0 is the end.
    async fn hear(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        let began = || "the plugin began TLS, which the case does not have there".to_owned();
        tokio::select! {
            biased;
            read = self.stream.read(buffer) => Ok(read.unwrap_or(0)),
            Some(_) = self.handshakes.recv() => Err(began()),
        }
    }

    async fn receive(&mut self, expected: &[u8]) -> Result<(), String> {
        let mut heard = Vec::new();
        let mut buffer = vec![0; 4096];
        while heard.len() < expected.len() && expected.starts_with(&heard) {
            let most = buffer.len().min(expected.len() - heard.len());
            match self.hear(&mut buffer[..most]).await.map_err(|why| format!(": {why}"))? {
                0 => break,
                read => heard.extend_from_slice(&buffer[..read]),
            }
        }
        if heard == expected {
            return Ok(());
        }
        // The rest of what it said makes the message easier to read.
        let rest = self.stream.read(&mut buffer).now_or_never().and_then(Result::ok).unwrap_or(0);
        heard.extend_from_slice(&buffer[..rest]);
        Err(format!("\n  expected {}\n  actual   {}", text(expected), text(&heard)))
    }

    /// Waits until the plugin begins TLS.
    async fn agree(&mut self) -> Result<(), String> {
        let mut buffer = [0; 4096];
        let read = tokio::select! {
            biased;
            Some(asked) = self.handshakes.recv() => {
                let _ = asked.send(());
                return Ok(());
            }
            read = self.stream.read(&mut buffer) => read.unwrap_or(0),
        };
        let said = if read == 0 { "closed it".to_owned() } else { format!("said {}", text(&buffer[..read])) };
        Err(format!("the plugin {said} instead of beginning TLS"))
    }
}

#[async_trait]
impl Line for Near {
    async fn start_tls(self: Box<Self>, host: &str, port: u16, limit: Duration) -> Result<Box<dyn Stream>, Error> {
        let peer = place(host, port);
        let (asked, agreed) = oneshot::channel();
        // A conversation that is over hears nothing, and the answer never comes.
        let _ = self.handshakes.send(asked);
        match tokio::time::timeout(limit, agreed).await {
            Ok(Ok(())) => Ok(self),
            Ok(Err(_)) => Err(Error::Connect { peer, source: std::io::ErrorKind::ConnectionReset.into() }),
            Err(_) => Err(Error::ConnectTimeout { peer, after: limit }),
        }
    }

    fn peer(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
}

impl AsyncRead for Near {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Near {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn text(bytes: &[u8]) -> String {
    shown(&json!(String::from_utf8_lossy(bytes)))
}
