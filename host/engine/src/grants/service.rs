//! Class `service`: HTTP to a program of this machine that listens on a unix socket, by the service's name. A plugin
//! reaches the service NAME as `http://NAME.local/`; which socket that is only the host's configuration knows.

use serde_json::{Value, json};

use super::{Scope, Side, list, some_list, wrong};

/// One service and what may be asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRequest {
    /// Its name, for instance `docker`.
    pub name: String,
    /// Lists of `METHOD[,METHOD...] PATH-PATTERN` that each must allow a request: what one side says, then the other. No
    /// list is all. The method `UPGRADE` is leave to switch to another protocol there.
    pub requests: Vec<Vec<String>>,
}

/// Services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceScope {
    any: bool,
    services: Vec<ServiceRequest>,
}

impl ServiceScope {
    /// What is granted.
    pub fn services(&self) -> &[ServiceRequest] {
        &self.services
    }

    fn find(&self, name: &str) -> Option<&ServiceRequest> {
        self.services.iter().find(|service| service.name == name)
    }
}

impl ServiceRequest {
    /// Methods and path pattern of each line, as `http::Service` wants them.
    pub(crate) fn patterns(&self) -> Vec<Vec<(Vec<String>, Option<String>)>> {
        let line = |line: &String| {
            let (methods, path) = line.split_once(' ')?;
            let methods = methods.split(',').filter(|method| *method != "*").map(str::to_ascii_uppercase).collect();
            Some((methods, Some(path.trim().to_owned())))
        };
        self.requests.iter().map(|list| list.iter().filter_map(line).collect()).collect()
    }

    fn to_json(&self) -> Value {
        match &self.requests[..] {
            [] => json!(self.name),
            lists => json!({ "name": self.name, "requests": lists.concat() }),
        }
    }
}

fn parse_one(value: &Value) -> Result<ServiceRequest, String> {
    let expected = "the name of a service or { \"name\": ..., \"requests\": [\"METHOD PATH\", ...] }";
    if let Some(name) = value.as_str() {
        return valid(name)
            .map(|name| ServiceRequest { name, requests: Vec::new() })
            .ok_or_else(|| wrong(value, expected));
    }
    let map = value.as_object().ok_or_else(|| wrong(value, expected))?;
    let name = map.get("name").and_then(Value::as_str).and_then(valid).ok_or_else(|| wrong(value, expected))?;
    if map.keys().any(|key| key != "name" && key != "requests") {
        return Err(wrong(value, expected));
    }
    let mut requests = Vec::new();
    for line in map.get("requests").map_or(&[] as &[Value], list) {
        let line =
            line.as_str().filter(|line| line.split_once(' ').is_some_and(|(_, path)| path.trim().starts_with('/')));
        requests.push(line.ok_or_else(|| wrong(value, expected))?.to_owned());
    }
    if map.contains_key("requests") && requests.is_empty() {
        return Err("an empty list of requests would allow nothing".to_owned());
    }
    let requests = if requests.is_empty() { Vec::new() } else { vec![requests] };
    Ok(ServiceRequest { name, requests })
}

fn valid(name: &str) -> Option<String> {
    let fits =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    fits.then(|| name.to_owned())
}

impl Scope for ServiceScope {
    const CLASS: &'static str = "service";

    fn parse(value: &Value, _: Side) -> Result<Self, String> {
        Ok(Self { any: false, services: list(value).iter().map(parse_one).collect::<Result<_, _>>()? })
    }

    fn everything() -> Self {
        Self { any: true, services: Vec::new() }
    }

    fn both(&self, other: &Self) -> Self {
        if self.any {
            return other.clone();
        }
        if other.any {
            return self.clone();
        }
        let mut services = Vec::new();
        for mine in &self.services {
            let Some(theirs) = other.find(&mine.name) else { continue };
            let requests = mine.requests.iter().chain(&theirs.requests).cloned().collect();
            services.push(ServiceRequest { name: mine.name.clone(), requests });
        }
        Self { any: false, services }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        some_list(
            self.services
                .iter()
                .filter(|service| granted.find(&service.name).is_none())
                .map(ServiceRequest::to_json)
                .collect(),
        )
    }
}
