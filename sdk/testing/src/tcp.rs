//! TCP as a case has it: conversations instead of far sides. A connection that the plugin opens leads to a listener on
//! this machine's loopback, which says what the case says and holds what it hears against it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::compare::shown;
use crate::exchange::Body;
use crate::problems::Problems;

/// After the call, conversations end by themselves: its connections are closed.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// The far side closes the connection.
    Word(CloseWord),
}

/// The only word for [`Turn`].
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CloseWord {
    /// Nothing more comes.
    Close,
}

enum Step {
    Receive(Vec<u8>),
    Send(Vec<u8>),
    Close,
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
    pub(crate) fn new(all: &[Conversation], folder: &Path, problems: Problems) -> Result<Self, String> {
        let step = |turn: &Turn| {
            Ok(match turn {
                Turn::Receive { receive } => Step::Receive(receive.bytes(folder)?),
                Turn::Send { send } => Step::Send(send.bytes(folder)?),
                Turn::Word(CloseWord::Close) => Step::Close,
            })
        };
        let steps = |one: &Conversation| {
            let steps: Result<Vec<_>, String> = one.exchange.iter().map(step).collect();
            Ok::<_, String>((one.to.clone(), steps?))
        };
        let waiting = all.iter().map(steps).collect::<Result<_, _>>()?;
        Ok(Self { waiting: Mutex::new(waiting), running: Mutex::default(), problems })
    }

    /// Begins the next conversation with a place; gives where it takes place. The error says what else there is.
    pub(crate) async fn begin(&self, to: &str) -> std::io::Result<Result<SocketAddr, String>> {
        let steps = {
            let mut waiting = lock(&self.waiting);
            let Some(at) = waiting.iter().position(|(place, _)| place == to) else {
                let there: Vec<&str> = waiting.iter().map(|(place, _)| place.as_str()).collect();
                let there = if there.is_empty() { "no further connection".to_owned() } else { there.join(", ") };
                return Ok(Err(format!(
                    "the plugin opened a connection that the case does not know\n  opened   {to}\n  expected {there}"
                )));
            };
            waiting.remove(at).1
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (to, problems) = (to.to_owned(), self.problems.clone());
        lock(&self.running).push(tokio::spawn(async move {
            if let Err(problem) = converse(&listener, steps).await {
                problems.add(format!("the connection to {to}: {problem}"));
            }
        }));
        Ok(Ok(address))
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

async fn converse(listener: &TcpListener, steps: Vec<Step>) -> Result<(), String> {
    let (mut stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
    for (number, step) in steps.into_iter().enumerate() {
        let turn = number + 1;
        match step {
            Step::Receive(expected) => {
                receive(&mut stream, &expected).await.map_err(|why| format!("turn {turn}{why}"))?
            }
            Step::Send(bytes) => {
                let sent = stream.write_all(&bytes).await;
                sent.map_err(|_| format!("turn {turn}: the plugin closed it before it got {}", text(&bytes)))?;
            }
            Step::Close => return Ok(()),
        }
    }
    // One read: who says more would wait for an answer. A plugin that does not want one may reset the connection.
    let mut more = vec![0; 4096];
    let read = stream.read(&mut more).await.unwrap_or(0);
    match read {
        0 => Ok(()),
        _ => Err(format!("at its end the plugin said {} more", text(&more[..read]))),
    }
}

async fn receive(stream: &mut TcpStream, expected: &[u8]) -> Result<(), String> {
    let mut heard = Vec::new();
    let mut buffer = vec![0; 4096];
    while heard.len() < expected.len() && expected.starts_with(&heard) {
        let most = buffer.len().min(expected.len() - heard.len());
        match stream.read(&mut buffer[..most]).await {
            Ok(read) if read > 0 => heard.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    if heard == expected {
        return Ok(());
    }
    // The rest of what it said makes the message easier to read.
    let rest = stream.try_read(&mut buffer).unwrap_or(0);
    heard.extend_from_slice(&buffer[..rest]);
    Err(format!("\n  expected {}\n  actual   {}", text(expected), text(&heard)))
}

fn text(bytes: &[u8]) -> String {
    shown(&json!(String::from_utf8_lossy(bytes)))
}
