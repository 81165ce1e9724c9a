//! The messages of a session, with the fields that are used of them: `session/auth/auth.proto` and
//! `session/secrets/secrets.proto` of moby/buildkit, `types/stat.proto` and `types/wire.proto` of tonistiigi/fsutil,
//! `health.proto` of grpc/grpc-proto.

use bytes::Bytes;
use prost::{Enumeration, Message};

/// Whether this side is there.
#[derive(Clone, PartialEq, Message)]
pub struct HealthCheckRequest {}

/// The answer.
#[derive(Clone, PartialEq, Message)]
pub struct HealthCheckResponse {
    /// 1 is "serving".
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// Asks for the credential of a registry.
#[derive(Clone, PartialEq, Message)]
pub struct CredentialsRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub host: String,
}

/// The answer; nothing for a registry without one.
#[derive(Clone, PartialEq, Message)]
pub struct CredentialsResponse {
    /// Empty for an identity token.
    #[prost(string, tag = "1")]
    pub username: String,
    /// A password or an identity token.
    #[prost(string, tag = "2")]
    pub secret: String,
}

/// Asks for a secret of the build.
#[derive(Clone, PartialEq, Message)]
pub struct GetSecretRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// The answer.
#[derive(Clone, PartialEq, Message)]
pub struct GetSecretResponse {
    /// The secret.
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

/// One step of copying a directory.
#[derive(Clone, PartialEq, Message)]
pub struct Packet {
    /// Which step.
    #[prost(enumeration = "PacketType", tag = "1")]
    pub kind: i32,
    /// With [`PacketType::Stat`]: none after the last.
    #[prost(message, optional, tag = "2")]
    pub stat: Option<Stat>,
    /// With [`PacketType::Req`] and [`PacketType::Data`]: which entry, counted from 0 as they were told.
    #[prost(uint32, tag = "3")]
    pub id: u32,
    /// With [`PacketType::Data`]: bytes, none at the end of the file. With [`PacketType::Err`]: why.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// The steps of copying a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum PacketType {
    /// The sender has an entry.
    Stat = 0,
    /// The receiver wants the bytes of one.
    Req = 1,
    /// The sender sends some of them.
    Data = 2,
    /// The receiver has all that it wanted, and the sender heard it.
    Fin = 3,
    /// Either gave up.
    Err = 4,
}

/// An entry.
#[derive(Clone, PartialEq, Message)]
pub struct Stat {
    /// From the root of what is copied.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Bits of `os.FileMode` of Go, which are not those of Unix.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// Who owns it.
    #[prost(uint32, tag = "3")]
    pub uid: u32,
    /// Which group owns it.
    #[prost(uint32, tag = "4")]
    pub gid: u32,
    /// Bytes.
    #[prost(int64, tag = "5")]
    pub size: i64,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "6")]
    pub mod_time: i64,
    /// Where a symlink leads.
    #[prost(string, tag = "7")]
    pub linkname: String,
}

impl Packet {
    /// A packet that says only this.
    pub fn of(kind: PacketType) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}
