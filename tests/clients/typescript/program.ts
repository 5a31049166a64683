// What a user of the generated TypeScript client would write. Run by ./scripts/clients, which sets the environment.

import assert from "node:assert/strict";
import {
  Configuration,
  HealthApi,
  type Problem,
  ProblemFromJSON,
  ResponseError,
  TableUsersApi,
  TenantApi,
  TenantStatus,
  UserFromJSON,
  UsersApi,
} from "./client";

function variable(name: string): string {
  const value = process.env[name];
  assert(value, name);
  return value;
}

const basePath = variable("TENANTRY_URL");
const tenant = variable("TENANTRY_TENANT");
// Where a token names the tenant, it is this one.
const token = process.env["TENANTRY_TOKEN"];

async function problemOf(refused: Promise<unknown>, status: number): Promise<Problem> {
  const error = await refused.then(() => assert.fail("this should have been refused"), (error: unknown) => error);
  assert(error instanceof ResponseError, String(error));
  const problem = ProblemFromJSON(await error.response.json());
  assert.equal(error.response.status, status);
  assert.equal(problem.status, status);
  assert(problem.title && problem.detail && problem.requestId);
  return problem;
}

async function users(api: UsersApi): Promise<void> {
  const created = [];
  for (const name of ["Ada", "Grace", "Jean"]) {
    created.push(await api.createUser({ userInput: { name, email: `${name.toLowerCase()}@example.com` } }));
  }
  const [ada] = created;
  assert(ada && ada.id > 0);
  assert.deepEqual([ada.name, ada.email], ["Ada", "ada@example.com"]);
  assert(Math.abs(Date.now() - ada.createdAt.getTime()) < 600_000);

  const first = await api.listUsers({ limit: 2 });
  assert.deepEqual(first.items, created.slice(0, 2));
  assert(first.next !== null);
  const second = await api.listUsers({ limit: 2, after: first.next });
  assert.deepEqual(second.items, created.slice(2));
  assert.equal(second.next, null);

  const { id, email } = ada;
  assert.deepEqual(await api.getUser({ id }), ada);
  const updated = await api.updateUser({ id, userInput: { name: "Ada Lovelace", email } });
  assert.equal(updated.name, "Ada Lovelace");
  assert(updated.updatedAt >= ada.updatedAt);
  assert.deepEqual(await api.getUser({ id }), updated);

  const conflict = await problemOf(
    api.createUser({ userInput: { name: "Another", email: "grace@example.com" } }),
    409,
  );
  assert.equal(conflict.code, "conflict");
  assert.deepEqual(conflict.errors?.map((fault) => fault.pointer), ["/email"]);

  for (const user of created) {
    await api.deleteUser({ id: user.id });
  }
  const gone = await problemOf(api.getUser({ id }), 404);
  assert.deepEqual([gone.code, gone.errors], ["not_found", undefined]);
}

async function declared(api: TableUsersApi): Promise<void> {
  const prefer = "return=representation";
  const [ada] = await api.createUsers({ tableUsersCreate: { name: "Ada", email: "ada@example.com" }, prefer });
  assert(ada?.id && ada.name === "Ada" && ada.createdAt instanceof Date);
  const read = await api.readUsers({ select: "id,name", name: "like.A*", order: "id.desc", limit: 1 });
  assert.deepEqual(read.map(({ id, name, email }) => [id, name, email]), [[ada.id, "Ada", undefined]]);
  const id = `eq.${ada.id}`;
  const changed = await api.updateUsers({ tableUsersUpdate: { name: "Ada Lovelace" }, id, prefer });
  assert.equal(changed?.[0]?.name, "Ada Lovelace");
  const deleted = await api.deleteUsers({ id, prefer });
  assert.equal(deleted?.[0]?.id, ada.id);
}

async function ofTenant(api: TenantApi): Promise<void> {
  const info = await api.getTenantInfo();
  assert.deepEqual([info.id, info.driver], [tenant, "sqlite"]);
  const stats = await api.getTenantStats();
  assert(stats.users === 0 && stats.pool.max > 0 && stats.queries.meanMs > 0);
}

async function health(api: HealthApi): Promise<void> {
  const own = await api.getTenantHealth({ id: tenant });
  assert.equal(own.status, TenantStatus.Healthy);
  assert.equal(own.error, null);
  assert(own.latencyMs !== null && own.checkedAt instanceof Date);
  assert(own.secret !== null && !own.secret.stale);
  const { tenants } = await api.listTenantsHealth();
  const unused = tenants.find(({ id }) => id === "unused");
  assert(unused);
  assert.equal(unused.status, TenantStatus.Idle);
  assert.deepEqual([unused.latencyMs, unused.checkedAt, unused.secret], [null, null, null]);
}

function aMemberThatALaterVersionAdds(): void {
  const at = "2026-01-02T03:04:05Z";
  const user = { id: 1, name: "Ada", email: "ada@example.com", created_at: at, updated_at: at };
  assert.equal(UserFromJSON({ ...user, added_later: { as: ["anything"] } }).name, "Ada");
}

async function main(): Promise<void> {
  const configuration = new Configuration({ basePath, apiKey: tenant, accessToken: token });
  await users(new UsersApi(configuration));
  await declared(new TableUsersApi(configuration));
  await ofTenant(new TenantApi(configuration));
  await health(new HealthApi(configuration));

  const wrong = new Configuration({ basePath, apiKey: "nobody", accessToken: token && "not a token" });
  const refused = await problemOf(new UsersApi(wrong).listUsers(), token ? 401 : 404);
  assert.equal(refused.code, token ? "unauthenticated" : "tenant_unknown");
  aMemberThatALaterVersionAdds();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
