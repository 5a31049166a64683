//! What clients try, and what they may be answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use reqwest::Method;
use serde_json::{Value, json};

use super::{CUSTOMERS, OWN, SHARED, Tenants};
use crate::shop::{Answer, Role, Shop};

/// The attempts, each of which a run makes many times.
pub(super) const NAMES: [&str; 18] = [
    "an own id",
    "a foreign id",
    "a list",
    "embedded rows",
    "a cursor from anywhere",
    "a new row",
    "an id that is taken",
    "an upsert",
    "a change of a foreign id",
    "a change",
    "a row given away",
    "a removal",
    "a removal of a foreign id",
    "a malformed id",
    "an unknown tenant",
    "a malformed tenant",
    "two tenants",
    "a forged token",
];

/// Ids that no column holds.
const MALFORMED: [&str; 8] = [
    "abc",
    "1%20OR%201=1",
    "1;DROP%20TABLE%20notes",
    "9223372036854775808",
    "1.5",
    "%27",
    "0x1",
    "",
];

/// One client with a connection of its own.
pub(super) struct Client {
    world: Arc<Tenants>,
    random: fastrand::Rng,
    /// The place of the tenant that it stays with.
    place: usize,
    pub(super) seen: BTreeMap<(&'static str, u16), u64>,
}

/// A request, and the statuses that it may be answered with.
struct Attempt {
    name: &'static str,
    role: Role,
    method: Method,
    path: String,
    prefer: &'static str,
    body: Option<Value>,
    may: &'static [u16],
}

impl Attempt {
    fn get(name: &'static str, role: Role, path: String) -> Self {
        Self {
            name,
            role,
            method: Method::GET,
            path,
            prefer: "count=exact",
            body: None,
            may: &[200, 206],
        }
    }

    fn change(name: &'static str, role: Role, method: Method, path: String, may: &'static [u16]) -> Self {
        Self {
            method,
            prefer: "return=representation, count=exact",
            may,
            ..Self::get(name, role, path)
        }
    }

    fn body(self, body: Value) -> Self {
        let body = Some(body);
        Self { body, ..self }
    }
}

impl Client {
    pub(super) fn new(world: Arc<Tenants>, seed: u64) -> Self {
        Self {
            world,
            random: fastrand::Rng::with_seed(seed),
            place: 0,
            seen: BTreeMap::new(),
        }
    }

    /// Sends so many requests for one tenant.
    pub(super) async fn stay(&mut self, requests: usize) {
        self.place = self.random.usize(..self.world.all.len());
        for _ in 0..requests {
            match self.random.u8(..100) {
                0..94 => {
                    let attempt = self.attempt();
                    self.make(attempt).await;
                }
                other => self.as_nobody(other).await,
            }
            self.world.count();
        }
    }

    fn tenant(&self) -> String {
        self.world.all[self.place].name.clone()
    }

    fn role(&mut self) -> Role {
        match self.random.u8(..3) {
            0 => Role::Anon,
            1 => Role::Clerk,
            _ => Role::Customer(self.random.i64(1..=CUSTOMERS)),
        }
    }

    fn writer(&mut self) -> Role {
        match self.random.bool() {
            true => Role::Clerk,
            false => Role::Customer(self.random.i64(1..=CUSTOMERS)),
        }
    }

    fn own_id(&mut self) -> i64 {
        match self.random.bool() {
            true => self.random.i64(1..=SHARED),
            false => Tenants::own_id(self.place, self.random.i64(1..=OWN)),
        }
    }

    /// An id that another tenant has, and this one has not.
    fn foreign_id(&mut self) -> i64 {
        let tenants = self.world.all.len();
        let other = (self.place + self.random.usize(1..tenants)) % tenants;
        Tenants::own_id(other, self.random.i64(1..=OWN))
    }

    fn attempt(&mut self) -> Attempt {
        let role = self.role();
        match self.random.u8(..100) {
            0..20 => Attempt::get("an own id", role, format!("notes?id=eq.{}", self.own_id())),
            20..35 => Attempt::get("a foreign id", role, format!("notes?id=in.({},0)", self.foreign_id())),
            35..50 => self.list(role),
            50..58 => {
                let role = self.writer();
                let select = ["id,body,parts(part,body)", "id,parts!inner(*),body", "body"][self.random.usize(..3)];
                let id = self.own_id();
                Attempt::get(
                    "embedded rows",
                    role,
                    format!("notes?select={select}&id=lte.{id}&limit=5"),
                )
            }
            58..64 => {
                let cursors = self.world.cursors.lock().unwrap();
                match self.random.choice(cursors.iter()) {
                    Some(after) => Attempt::get("a cursor from anywhere", role, format!("notes?order=id&{after}")),
                    None => Attempt::get("a list", role, "notes?limit=3".to_owned()),
                }
            }
            64..94 => self.change(),
            _ => {
                let id = MALFORMED[self.random.usize(..MALFORMED.len())];
                let may = Attempt::get("a malformed id", role, format!("notes?id=eq.{id}"));
                Attempt { may: &[400], ..may }
            }
        }
    }

    fn list(&mut self, role: Role) -> Attempt {
        let foreign = self.foreign_id();
        let queries = [
            "notes?order=id.desc&limit=7".to_owned(),
            "notes?limit=3".to_owned(),
            "notes?body=like.*mark*&order=body,id".to_owned(),
            "notes?or=(owner.neq.x,id.gt.0)&offset=4".to_owned(),
            format!("notes?not.and=(id.eq.{foreign},id.lt.0)"),
            format!("notes?id=gte.{foreign}&owner=not.is.null"),
        ];
        let query = queries[self.random.usize(..queries.len())].clone();
        let may: &[u16] = &[200, 206, 416];
        Attempt {
            may,
            ..Attempt::get("a list", role, query)
        }
    }

    fn change(&mut self) -> Attempt {
        let (role, tenant) = (self.writer(), self.tenant());
        let customer = match role {
            Role::Customer(customer) => customer,
            _ => self.random.i64(1..=CUSTOMERS),
        };
        let text = format!("{}changed", Tenants::mark(&tenant, customer));
        let changed = json!({"body": text, "customer": customer});
        let foreign = self.foreign_id();
        match self.random.u8(..100) {
            0..20 => {
                let id = self.world.next.fetch_add(1, Ordering::Relaxed);
                let note = Tenants::note(&tenant, customer, id);
                Attempt::change("a new row", role, Method::POST, "notes".to_owned(), &[201]).body(note)
            }
            20..30 => {
                // A row that only a rule hides is taken all the same.
                let note = Tenants::note(&tenant, customer, 999);
                Attempt::change("an id that is taken", role, Method::POST, "notes".to_owned(), &[409]).body(note)
            }
            30..40 => {
                let note = Tenants::note(&tenant, customer, self.random.i64(1..=SHARED));
                let attempt = Attempt::change(
                    "an upsert",
                    Role::Clerk,
                    Method::POST,
                    "notes".to_owned(),
                    &[200, 201, 409],
                );
                let prefer = "resolution=merge-duplicates, return=representation";
                Attempt {
                    prefer,
                    ..attempt.body(note)
                }
            }
            40..55 => {
                let path = format!("notes?id=eq.{foreign}");
                Attempt::change("a change of a foreign id", role, Method::PATCH, path, &[200]).body(changed)
            }
            55..70 => {
                let path = format!("notes?id=eq.{}&customer=eq.{customer}", self.own_id());
                Attempt::change("a change", role, Method::PATCH, path, &[200, 409]).body(changed)
            }
            70..78 => {
                // To a customer whose rows the role may not have.
                let path = format!("notes?id=eq.{}", self.own_id());
                let role = Role::Customer(customer);
                let given = json!({"customer": customer % CUSTOMERS + 1});
                Attempt::change("a row given away", role, Method::PATCH, path, &[200, 403, 409]).body(given)
            }
            78..90 => {
                let path = format!(
                    "notes?id=gt.1000000000&id=lte.{}",
                    self.world.next.load(Ordering::Relaxed)
                );
                Attempt::change("a removal", role, Method::DELETE, path, &[200, 409])
            }
            _ => {
                let path = format!("notes?id=eq.{foreign}");
                Attempt::change("a removal of a foreign id", role, Method::DELETE, path, &[200])
            }
        }
    }

    async fn make(&mut self, attempt: Attempt) {
        let Attempt {
            name,
            role,
            method,
            path,
            prefer,
            body,
            may,
        } = attempt;
        let tenant = self.tenant();
        let is_foreign = name.contains("foreign");
        let (is_new, is_removal) = (matches!(name, "a new row" | "an upsert"), name == "a removal");
        let text = body.map(|body| body.to_string());
        let world = self.world.clone();
        let answer = world
            .shop
            .send(&tenant, role, method, &path, &[("Prefer", prefer)], text)
            .await;
        let context = || format!("{name} of {tenant} as {role:?}: {path}: {answer:?}");
        assert!(may.contains(&answer.status), "{}", context());
        only_own(&answer, &tenant, role, &context);
        if is_foreign {
            assert_eq!(answer.body, "[]", "{}", context());
        }
        let notes = &world.all[self.place].notes;
        if is_new && answer.status == 201 {
            notes.fetch_add(1, Ordering::Relaxed);
        }
        if is_removal && answer.status == 200 {
            let removed = answer.json().as_array().map_or(0, Vec::len);
            notes.fetch_sub(removed as i64, Ordering::Relaxed);
        }
        self.remember_cursor(&answer);
        *self.seen.entry((name, answer.status)).or_default() += 1;
    }

    fn remember_cursor(&mut self, answer: &Answer) {
        let mut parameters = answer.header("link").split(['?', '&', '>']);
        let cursor = parameters.rfind(|parameter| parameter.starts_with("after="));
        // Of an order by the key alone, which all of them have.
        if let Some(cursor) = cursor.filter(|_| answer.header("link").contains("?limit=3")) {
            let mut known = self.world.cursors.lock().unwrap();
            match known.len() {
                0..500 => known.push(cursor.to_owned()),
                length => known[self.random.usize(..length)] = cursor.to_owned(),
            }
        }
    }

    /// Names no tenant, a wrong one, or two.
    async fn as_nobody(&mut self, which: u8) {
        let (own, path) = (self.tenant(), format!("notes?id=eq.{}", self.own_id()));
        let shop = &self.world.shop;
        let anonymous = |tenant: &'static str| shop.send(tenant, Role::Anon, Method::GET, &path, &[], None);
        let other = self.world.all[(self.place + 1) % self.world.all.len()].name.clone();
        let (name, answer, code) = match which {
            94 => (
                "an unknown tenant",
                anonymous(["t999", "nobody", "isolated_t000"][self.random.usize(..3)]).await,
                404,
            ),
            95 => (
                "a malformed tenant",
                anonymous(["T001", "t000,t001", "../t000", "t0 00", "t000;", "é"][self.random.usize(..6)]).await,
                400,
            ),
            96 => {
                let header = [("X-Tenant-ID", other.as_str())];
                (
                    "two tenants",
                    shop.send(&own, Role::Anon, Method::GET, &path, &header, None).await,
                    400,
                )
            }
            97 => {
                // The token counts, and the header beside it does not.
                let header = [("X-Tenant-ID", other.as_str())];
                let answer = shop.send(&own, Role::Clerk, Method::GET, &path, &header, None).await;
                only_own(&answer, &own, Role::Clerk, &|| format!("{answer:?}"));
                *self.seen.entry(("a token and a header", answer.status)).or_default() += 1;
                assert_eq!(answer.status, 200, "{answer:?}");
                return;
            }
            _ => {
                let token = forged(&own, &other, self.random.bool());
                let header = [("Authorization", token.as_str())];
                (
                    "a forged token",
                    shop.send(&own, Role::Anon, Method::GET, &path, &header, None).await,
                    401,
                )
            }
        };
        assert_eq!(answer.status, code, "{name}: {answer:?}");
        assert!(!answer.body.contains("mark-"), "{name}: {answer:?}");
        *self.seen.entry((name, answer.status)).or_default() += 1;
    }
}

/// A token that was signed for another tenant, with this one's claims; or one that says that it has
/// no signature.
fn forged(own: &str, other: &str, is_unsigned: bool) -> String {
    let token = |tenant| Shop::token(tenant, Role::Clerk).unwrap();
    let (own, other) = (token(own), token(other));
    let claims = own.split('.').nth(1).unwrap();
    let (head, signature) = (other.split('.').next().unwrap(), other.rsplit('.').next().unwrap());
    match is_unsigned {
        // {"alg":"none"}
        true => format!("Bearer eyJhbGciOiJub25lIn0.{claims}."),
        false => format!("Bearer {head}.{claims}.{signature}"),
    }
}

/// Each mark in an answer is of this tenant, and of this customer.
fn only_own(answer: &Answer, tenant: &str, role: Role, context: &dyn Fn() -> String) {
    let own = match role {
        Role::Customer(customer) => Tenants::mark(tenant, customer),
        _ => format!("mark-{tenant}-"),
    };
    let headers = answer.headers.values().map(|value| value.to_str().unwrap_or_default());
    for text in headers.chain([answer.body.as_str()]) {
        for (at, _) in text.match_indices("mark-") {
            assert!(text[at..].starts_with(&own), "a foreign row: {}", context());
        }
    }
    if role == Role::Anon {
        assert!(!answer.body.contains("\"another\""), "a hidden row: {}", context());
    }
}
