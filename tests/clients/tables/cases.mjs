// Runs the cases of cases.json with the dialect's clients in JavaScript, on a tenant of each kind of database. Run by
// ./scripts/tables-clients.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";

import { PostgrestClient } from "@supabase/postgrest-js";
import { createClient } from "@supabase/supabase-js";

const url = process.env.TENANTRY_URL;
const tenants = process.env.TENANTRY_TENANTS.split(" ");
const cases = JSON.parse(readFileSync(new URL("cases.json", import.meta.url)));

/** A token for a tenant, signed with HS256 (RFC 7518 §3.2). */
function token(tenant, role) {
  const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded({ tenant, role, name: "ann", exp: 4102444800 })}`;
  return `${signed}.${createHmac("sha256", process.env.TENANTRY_TOKEN_SECRET).update(signed).digest("base64url")}`;
}

// supabase-js opens its other channels with what Node.js has from version 22 on; none of them is opened here.
class NoSocket {}

/** How a program makes each client. */
const clients = {
  "postgrest-js": (tenant, role) =>
    new PostgrestClient(`${url}/rest/v1`, { headers: { Authorization: `Bearer ${token(tenant, role)}` } }),
  "supabase-js": (tenant, role) =>
    createClient(url, token(tenant, role), { auth: { persistSession: false }, realtime: { transport: NoSocket } }),
};

/** JSON with the members of its objects sorted; of a change also its rows, which come in no order. */
function canonical(value, anyOrder = false) {
  const sorted = (value) => {
    if (Array.isArray(value)) return value.map(sorted);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
  };
  const rows = anyOrder && Array.isArray(value) ? value.map((row) => JSON.stringify(sorted(row))).sort() : null;
  return rows ? `[${rows}]` : JSON.stringify(sorted(value));
}

async function run(client, step) {
  let chain = client.from(step.table);
  for (const [method, ...given] of step.call) chain = chain[method](...given);
  return await chain;
}

/** What is not as a step says. */
function differences(step, answer) {
  const found = [];
  const anyOrder = step.call[0][0] !== "select";
  const compare = (what, is, expected) => {
    if (canonical(is, anyOrder) !== canonical(expected, anyOrder)) {
      found.push(`${what} is ${canonical(is)} and not ${canonical(expected)}`);
    }
  };
  if (step.error === undefined) compare("error", answer.error, null);
  else if (!answer.error) found.push("no error");
  for (const [name, value] of Object.entries(step.error ?? {})) compare(name, answer.error?.[name], value);
  for (const name of ["data", "count", "status"]) {
    if (name in step) compare(name, answer[name], step[name]);
  }
  return found;
}

/** What must be the same on every kind of database: constraints have names of their own on each. */
function comparable(step, { data, count, status, error }) {
  const constraint = error?.code?.startsWith("23");
  const said = error && { code: error.code, message: constraint ? "" : error.message, details: error.details, hint: error.hint };
  return canonical([canonical(data, step.call[0][0] !== "select"), count, status, said]);
}

let failed = 0;
for (const [name, make] of Object.entries(clients)) {
  const first = new Map();
  for (const tenant of tenants) {
    const made = new Map();
    let passed = 0;
    for (const one of cases) {
      const role = one.role ?? "clerk";
      if (!made.has(role)) made.set(role, make(tenant, role));
      const found = [];
      for (const [number, step] of (one.steps ?? [one]).entries()) {
        const answer = await run(made.get(role), step);
        const place = `step ${number + 1}: `;
        found.push(...differences(step, answer).map((difference) => place + difference));
        const key = `${one.name} ${number}`;
        const said = comparable(step, answer);
        if (!first.has(key)) first.set(key, said);
        else if (first.get(key) !== said) found.push(`${place}${said} is not what ${tenants[0]} says: ${first.get(key)}`);
      }
      if (found.length === 0) passed += 1;
      else {
        failed += 1;
        console.log(`tables-clients: ${name} on ${tenant}: ${one.name}: ${found.join("; ")}`);
      }
    }
    console.log(`tables-clients: ${name} on ${tenant}: ${passed} of ${cases.length} cases passed`);
  }
}
process.exit(failed ? 1 : 0);
