//! `wasi:sockets` for one plugin call: TCP to what was granted, by address or by a name that the guest looked up
//! through us. UDP and listening are refused whatever the grants say.
//!
//! A guest resolves a name and then connects to an address. So the look-up admits only granted names and remembers
//! which addresses they have; a connection is admitted only to such an address, or to one that a grant writes out.
//! The addresses that a public name gives must not lead to this machine or to a cloud's metadata service.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cooperage_solve::Level;
use serde_json::json;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, IoError, SocketError};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtxView, WasiSocketsView};

use crate::grants::{TcpRule, allow_line};
use crate::http::address::AddressKind;
use crate::instance::State;
use crate::output::Log;

/// Addresses remembered per call.
const MOST_ADDRESSES: usize = 10_000;

/// What one call may connect to. Clones are the same.
#[derive(Clone)]
pub(crate) struct Sockets(Arc<Mutex<Inner>>);

struct Inner {
    plugin: Arc<str>,
    rules: Vec<TcpRule>,
    log: Log,
    /// Addresses that granted names have, with the name.
    admitted: HashSet<(IpAddr, String)>,
    /// Names of look-ups under way, by the number of their stream.
    lookups: HashMap<u32, String>,
}

impl Sockets {
    pub(crate) fn new(plugin: Arc<str>, rules: Vec<TcpRule>, log: Log) -> Self {
        Self(Arc::new(Mutex::new(Inner { plugin, rules, log, admitted: HashSet::new(), lookups: HashMap::new() })))
    }

    /// Opens TCP as far as there are grants; without any, everything stays closed as it is by default.
    pub(crate) fn configure(&self, wasi: &mut WasiCtxBuilder) {
        if self.lock().rules.is_empty() {
            return;
        }
        let sockets = self.clone();
        wasi.allow_tcp(true).allow_udp(false).allow_ip_name_lookup(true).socket_addr_check(move |address, purpose| {
            let allowed = match purpose {
                // Connecting binds to the unspecified address first.
                SocketAddrUse::TcpBind => address.port() == 0 && address.ip().is_unspecified(),
                SocketAddrUse::TcpConnect => sockets.lock().connect(address),
                _ => false,
            };
            Box::pin(std::future::ready(allowed))
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn connect(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let by_address = |rule: &TcpRule| rule.host.parse::<IpAddr>().is_ok_and(|host| host.to_canonical() == ip);
        let by_name =
            |rule: &TcpRule| self.admitted.iter().any(|(there, name)| *there == ip && rule.matches_host(name));
        let port = |rule: &&TcpRule| rule.ports.contains(&address.port());
        let allowed = self.rules.iter().filter(port).any(|rule| by_address(rule) || by_name(rule));
        if !allowed {
            let name = self.admitted.iter().find(|(there, _)| *there == ip).map(|(_, name)| name.clone());
            let host = name.unwrap_or_else(|| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() });
            self.refuse(&format!("{host}:{}", address.port()));
        }
        allowed
    }

    /// A guest sees only "permission denied", so the reason goes to its log.
    fn refuse(&self, place: &str) {
        let line = allow_line(&self.plugin, "tcp", &json!([place]));
        self.log.line(
            Level::Warn,
            &format!("plugin `{}` may not connect to {place}; to allow it, write `{line}`", self.plugin),
        );
    }

    fn begin(&mut self, name: &str) -> bool {
        let allowed = self.rules.iter().any(|rule| rule.matches_host(name));
        if !allowed {
            self.refuse(&format!("{name}:*"));
        }
        allowed
    }

    /// Whether an address found for a name may be used under that name.
    fn admit(&mut self, stream: u32, ip: IpAddr) -> bool {
        let Some(name) = self.lookups.get(&stream) else { return false };
        let local = name == "localhost" || name.ends_with(".localhost");
        let fits = match AddressKind::of(ip) {
            AddressKind::Public | AddressKind::Private => true,
            AddressKind::Loopback => local || name.parse::<IpAddr>().is_ok(),
            AddressKind::LinkLocal | AddressKind::Special => name.parse::<IpAddr>().is_ok(),
        };
        if !fits {
            let kind = AddressKind::of(ip).word();
            self.log.line(
                Level::Warn,
                &format!(
                    "{name} has the {kind} address {ip}, which is left out; grant the address itself if it is meant"
                ),
            );
        } else if self.admitted.len() < MOST_ADDRESSES {
            self.admitted.insert((ip.to_canonical(), name.clone()));
        }
        fits
    }
}

/// Replaces the look-up of names that wasmtime offers.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    ip_name_lookup::add_to_linker::<State, Lookups>(linker, |state| Lookup {
        sockets: state.sockets.clone(),
        inner: state.sockets(),
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Lookups;

impl HasData for Lookups {
    type Data<'a> = Lookup<'a>;
}

struct Lookup<'a> {
    sockets: Sockets,
    inner: WasiSocketsCtxView<'a>,
}

/// Not asked for by itself: the look-up's errors are those of the network.
impl network::Host for Lookup<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.inner.convert_error_code(error)
    }

    fn network_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        self.inner.network_error_code(error)
    }
}

impl network::HostNetwork for Lookup<'_> {
    fn drop(&mut self, this: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.inner, this)
    }
}

impl ip_name_lookup::Host for Lookup<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        if !self.sockets.lock().begin(&lower) {
            return Err(ErrorCode::AccessDenied.into());
        }
        let stream = self.inner.resolve_addresses(network, name)?;
        self.sockets.lock().lookups.insert(stream.rep(), lower);
        Ok(stream)
    }
}

impl ip_name_lookup::HostResolveAddressStream for Lookup<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let number = stream.rep();
        loop {
            let again = Resource::new_borrow(number);
            let Some(address) = self.inner.resolve_next_address(again)? else { return Ok(None) };
            let ip = match address {
                IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
                IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
            };
            if self.sockets.lock().admit(number, ip) {
                return Ok(Some(address));
            }
        }
    }

    fn subscribe(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>> {
        self.inner.subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.sockets.lock().lookups.remove(&stream.rep());
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.inner, stream)
    }
}

#[cfg(test)]
mod tests {
    use cooperage_solve::{Reporter, Secrets};

    use super::*;
    use crate::limits::Limits;

    fn sockets(rules: &[&str]) -> Sockets {
        let log = Log::new(Reporter::silent(), None, &Secrets::default(), &Limits::default());
        Sockets::new("p".into(), rules.iter().map(|rule| rule.parse().unwrap()).collect(), log)
    }

    fn connect(sockets: &Sockets, address: &str) -> bool {
        sockets.lock().connect(address.parse().unwrap())
    }

    #[test]
    fn addresses_that_grants_write_out() {
        let sockets = sockets(&["127.0.0.1:21", "[::1]:30-40"]);
        assert!(connect(&sockets, "127.0.0.1:21") && connect(&sockets, "[::ffff:127.0.0.1]:21"));
        assert!(!connect(&sockets, "127.0.0.1:22") && !connect(&sockets, "127.0.0.2:21"));
        assert!(connect(&sockets, "[::1]:40") && !connect(&sockets, "[::1]:41"));
    }

    #[test]
    fn addresses_only_of_names_that_were_looked_up() {
        let sockets = sockets(&["ftp.example:*"]);
        assert!(!connect(&sockets, "192.0.2.7:21"));
        let mut inner = sockets.lock();
        assert!(!inner.begin("evil.example") && inner.begin("ftp.example"));
        inner.lookups.insert(1, "ftp.example".into());
        assert!(inner.admit(1, "192.0.2.7".parse().unwrap()));
        assert!(!inner.admit(1, "127.0.0.1".parse().unwrap()), "a name must not lead to this machine");
        assert!(!inner.admit(1, "169.254.169.254".parse().unwrap()));
        assert!(!inner.admit(2, "192.0.2.8".parse().unwrap()));
        drop(inner);
        assert!(
            connect(&sockets, "192.0.2.7:4000")
                && !connect(&sockets, "192.0.2.8:21")
                && !connect(&sockets, "127.0.0.1:21")
        );
    }
}
