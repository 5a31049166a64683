(() => {
  const STATUSES = ["unhealthy", "behind", "migrating", "suspended", "healthy", "idle"];
  const PER_PAGE = 50;
  // The first page is small, so that something is seen at once.
  const FIRST_LOAD = 100;
  const LOAD = 10000;
  const PULSE_MS = 5000;
  // A fleet up to this size is loaded anew by itself.
  const SMALL_FLEET = 5000;
  const RELOAD_MS = 30000;
  const COLUMNS = [
    ["id", "Tenant"], ["status", "Status"], ["driver", "Driver"], ["version", "Version"], ["latency", "Latency"],
    ["open", "Connections"], ["age", "Secret age"], ["error", "Last error"], [null, "Actions"],
  ];
  const ACTIONS = {
    refresh: ["Refresh", "Read the secret of", "A changed secret gets new connections; running requests end as they are."],
    suspend: ["Suspend", "Suspend", "Its requests are answered 403 from now on; those that run go on to their end."],
    resume: ["Resume", "Resume", "Its requests are served again."],
    close: ["Close pool", "Close the pool of", "Its connections are closed once its running requests are done."],
  };

  const { part, number, make, duration, note, showCharts, forget } = charts;
  let token = null;
  let generation = 0;
  let tenants = [];
  let places = new Map();
  let summary = null;
  let isWhole = false;
  let sort = { key: "id", up: true };
  let page = 0;
  let loadedAt = 0;

  async function request(method, path) {
    const headers = token === null ? {} : { Authorization: "Bearer " + token };
    const answer = await fetch(path, { method, headers, cache: "no-store", credentials: "omit", redirect: "error" });
    if (answer.status === 401) throw Object.assign(new Error("not an operator"), { isRefused: true });
    return answer;
  }

  async function read(path) {
    const answer = await request("GET", path);
    if (!answer.ok) throw new Error(await reason(answer));
    return answer.json();
  }

  async function reason(answer) {
    try {
      return (await answer.json()).detail;
    } catch {
      return "The server answered " + answer.status + ".";
    }
  }

  // What is kept of a tenant.
  function kept(health) {
    return {
      id: health.id, status: health.status, driver: health.driver ?? "", version: health.schema?.version ?? "",
      pending: health.schema?.pending ?? 0, latency: health.latency_ms, open: health.pool.open, max: health.pool.max,
      used: health.pool.in_use, age: health.secret?.age_ms ?? null, stale: health.secret?.stale ?? false, error: health.error ?? "",
      at: Date.now(),
    };
  }

  async function load() {
    const mine = ++generation;
    const fresh = [];
    let after = "", limit = FIRST_LOAD;
    const isFirst = tenants.length === 0;
    for (;;) {
      const found = await read("/health/tenants?limit=" + limit + after);
      if (mine !== generation) return;
      for (const health of found.tenants) fresh.push(kept(health));
      summary = found.summary;
      part("incomplete").textContent = found.incomplete ?? "";
      isWhole = found.next === null;
      if (isFirst || isWhole) {
        tenants = fresh;
        show();
      }
      if (isWhole) break;
      after = "&after=" + encodeURIComponent(found.next);
      limit = LOAD;
    }
    places = new Map(tenants.map((tenant, index) => [tenant.id, index]));
    loadedAt = Date.now();
  }

  function showSummary() {
    const chosen = part("status").value;
    const entry = (name, count) => {
      const button = make("button", { type: "button" }, make("b", { textContent: number.format(count) }));
      button.append(make("span", { textContent: name, className: name === "total" ? "" : "status " + name }));
      button.setAttribute("aria-pressed", String(chosen === (name === "total" ? "" : name)));
      button.addEventListener("click", () => {
        part("status").value = name === "total" ? "" : name;
        page = 0;
        show();
      });
      return make("li", {}, button);
    };
    const names = ["total", "healthy", "unhealthy", "idle", "suspended", "migrating", "behind"];
    const focused = [...part("summary").querySelectorAll("button")].indexOf(document.activeElement);
    part("summary").replaceChildren(...names.map((name) => entry(name, summary[name])));
    if (focused >= 0) part("summary").querySelectorAll("button")[focused].focus();
    const { migrating, behind } = summary;
    const is = (count, one, many) => number.format(count) + " " + (count === 1 ? one : many);
    part("migrations").textContent = migrating + behind === 0
      ? "No tenant is being migrated, and none is below the version that is served."
      : is(migrating, "tenant is being migrated", "tenants are being migrated") + "; "
        + is(behind, "is below the version that is served.", "are below the version that is served.");
  }

  function filtered() {
    const name = part("name").value.trim().toLowerCase();
    const status = part("status").value;
    const found = tenants.filter((tenant) => (status === "" || tenant.status === status) && (name === "" || tenant.id.toLowerCase().includes(name)));
    const { key, up } = sort;
    if (key !== "id" || !up) {
      const value = (tenant) => (key === "status" ? STATUSES.indexOf(tenant.status) : tenant[key]);
      found.sort((one, other) => {
        const a = value(one), b = value(other);
        // What is not known comes last, whichever way.
        if ((a ?? "") === "" || (b ?? "") === "") return ((a ?? "") === "") - ((b ?? "") === "") || (one.id < other.id ? -1 : 1);
        const order = a < b ? -1 : a > b ? 1 : 0;
        return (up ? order : -order) || (one.id < other.id ? -1 : 1);
      });
    }
    return found;
  }

  function cell(label, text) {
    const made = make("td", { textContent: text });
    made.dataset.label = label;
    return made;
  }

  function row(tenant) {
    const status = cell("Status", "");
    status.append(make("span", { className: "status " + tenant.status, textContent: tenant.status }));
    const version = tenant.version + (tenant.pending > 0 ? (tenant.version ? ", " : "") + tenant.pending + " pending" : "");
    const actions = make("div", { className: "tools" });
    const add = (text, act) => {
      const button = make("button", { type: "button", textContent: text });
      button.setAttribute("aria-label", text + " " + tenant.id);
      button.addEventListener("click", act);
      actions.append(button);
    };
    add("Check", () => check(tenant.id));
    for (const name of ["refresh", tenant.status === "suspended" ? "resume" : "suspend", "close"]) {
      add(ACTIONS[name][0], () => ask(name, tenant.id));
    }
    const id = make("th", { textContent: tenant.id, scope: "row" });
    const made = make("tr", {}, id, status, cell("Driver", tenant.driver), cell("Version", version),
      cell("Latency", duration(tenant.latency)),
      cell("Connections", tenant.max > 0 ? tenant.open + " of " + tenant.max + (tenant.used > 0 ? ", " + tenant.used + " used" : "") : ""),
      cell("Secret age", tenant.age === null ? "" : duration(tenant.age + Date.now() - tenant.at) + (tenant.stale ? ", stale" : "")),
      cell("Last error", tenant.error), make("td", {}, actions));
    made.dataset.tenant = tenant.id;
    return made;
  }

  function showHeads() {
    part("heads").replaceChildren(...COLUMNS.map(([key, title]) => {
      const head = make("th", { scope: "col" });
      if (key === null || key === "error") {
        head.textContent = title;
        return head;
      }
      if (sort.key === key) head.setAttribute("aria-sort", sort.up ? "ascending" : "descending");
      const mark = sort.key === key ? (sort.up ? " ↑" : " ↓") : "";
      const button = make("button", { type: "button", textContent: title + mark });
      button.addEventListener("click", () => {
        sort = { key, up: sort.key === key ? !sort.up : true };
        part("sort").value = key;
        page = 0;
        show();
        part("heads").querySelector("[aria-sort] button").focus();
      });
      head.append(button);
      return head;
    }));
  }

  function show() {
    const found = filtered();
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(page, pages - 1);
    showSummary();
    showHeads();
    // The keyboard stays where it is.
    const focused = document.activeElement?.getAttribute?.("aria-label");
    part("rows").replaceChildren(...found.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(row));
    if (focused) part("rows").querySelector('[aria-label="' + CSS.escape(focused) + '"]')?.focus();
    part("count").textContent = isWhole
      ? number.format(found.length) + " of " + number.format(tenants.length) + " tenants"
      : "Loading: " + number.format(tenants.length) + " of " + number.format(summary.total) + " tenants";
    part("page").textContent = "Page " + number.format(page + 1) + " of " + number.format(pages);
    part("previous").disabled = page === 0;
    part("next").disabled = page >= pages - 1;
    part("updated").textContent = "As of " + new Date().toLocaleTimeString();
  }

  const indexOf = (id) => places.get(id) ?? tenants.findIndex((tenant) => tenant.id === id);

  function replace(health) {
    const index = indexOf(health.id);
    if (index < 0) return;
    const before = tenants[index];
    summary[before.status] -= 1;
    summary[health.status] += 1;
    tenants[index] = kept(health);
    show();
  }

  function failed(error) {
    if (error.isRefused) {
      signOut(token === null ? "" : "That token is not the operator's.");
    } else {
      part("problem").textContent = error.message || "The server cannot be reached.";
    }
  }

  async function act(work) {
    part("problem").textContent = "";
    try {
      await work();
    } catch (error) {
      failed(error);
    }
  }

  const one = (id) => encodeURIComponent(id);

  // One tenant is a page of one, which begins after the tenant before it.
  async function reread(id, probe) {
    const before = tenants[indexOf(id) - 1];
    const bytes = before === undefined ? [] : [...new TextEncoder().encode(before.id)];
    const place = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const found = await read("/health/tenants?limit=1&probe=" + probe + (place === "" ? "" : "&after=" + place));
    if (found.tenants[0]?.id === id) {
      replace(found.tenants[0]);
    } else {
      await load();
    }
  }

  const check = (id) => act(() => reread(id, true));

  function ask(name, id) {
    const [label, verb, consequence] = ACTIONS[name];
    part("question").textContent = verb + " “" + id + "”" + (name === "refresh" ? " anew?" : "?");
    part("consequence").textContent = consequence;
    part("yes").textContent = label;
    const dialog = part("confirm");
    dialog.returnValue = "no";
    dialog.onclose = () => {
      if (dialog.returnValue === "yes") act(() => perform(name, id));
    };
    dialog.showModal();
  }

  async function perform(name, id) {
    const path = "/admin/tenants/" + one(id);
    const answer = name === "close" ? await request("DELETE", path + "/pool") : await request("POST", path + "/" + name);
    if (!answer.ok) throw new Error(await reason(answer));
    if (name === "refresh") {
      replace(await answer.json());
    } else {
      await reread(id, false);
    }
  }

  function showBudget({ pools }) {
    const entry = (title, value, most) => {
      const bar = make("progress", { value, max: Math.max(most, 1) });
      bar.setAttribute("aria-label", title);
      const text = number.format(value) + " of " + number.format(most) + " " + title.toLowerCase();
      return [make("dt", { className: "unseen", textContent: title }), make("dd", { textContent: text }, bar)];
    };
    part("budget").replaceChildren(
      ...entry("Connections", pools.connections, pools.connections_capacity),
      ...entry("Tenants with connections", pools.open, pools.capacity));
  }

  async function pulse() {
    const [cache, metrics, few] = await Promise.all([
      read("/health/cache"), request("GET", "/metrics").then((answer) => answer.text()), read("/health/tenants?limit=1"),
    ]);
    showBudget(cache);
    note(metrics);
    showCharts();
    summary = few.summary;
    part("incomplete").textContent = few.incomplete ?? "";
    showSummary();
  }

  function watch() {
    const mine = token;
    const again = async () => {
      if (part("fleet").hidden || mine !== token) return;
      if (!document.hidden) {
        try {
          await pulse();
          if (isWhole && tenants.length <= SMALL_FLEET && Date.now() - loadedAt > RELOAD_MS) await load();
        } catch (error) {
          failed(error);
        }
      }
      setTimeout(again, PULSE_MS);
    };
    again();
  }

  function signOut(message) {
    generation += 1;
    token = null;
    tenants = [];
    places = new Map();
    forget();
    part("rows").replaceChildren();
    for (const id of ["fleet", "reload", "forget"]) part(id).hidden = true;
    part("updated").textContent = "";
    part("login").hidden = false;
    part("login-problem").textContent = message;
    part("token").focus();
  }

  async function open() {
    try {
      const loading = load();
      // Seen as soon as the first tenants are there.
      let looking;
      const seen = new Promise((resolve) => {
        looking = setInterval(() => tenants.length > 0 && resolve(), 10);
      });
      await Promise.race([loading, seen]).finally(() => clearInterval(looking));
      part("login").hidden = true;
      for (const id of ["fleet", "reload"]) part(id).hidden = false;
      part("forget").hidden = token === null;
      watch();
      await loading;
    } catch (error) {
      if (error.isRefused) {
        signOut(token === null ? "" : "That token is not the operator's.");
      } else {
        signOut(error.message || "The server cannot be reached.");
      }
    }
  }

  part("login").addEventListener("submit", (event) => {
    event.preventDefault();
    token = part("token").value;
    part("token").value = "";
    part("login-problem").textContent = "";
    open();
  });
  part("forget").addEventListener("click", () => signOut(""));
  part("reload").addEventListener("click", () => act(load));
  part("filter").addEventListener("submit", (event) => event.preventDefault());
  for (const [id, event] of [["name", "input"], ["status", "change"]]) {
    part(id).addEventListener(event, () => {
      page = 0;
      show();
    });
  }
  part("sort").addEventListener("change", () => {
    sort = { key: part("sort").value, up: true };
    page = 0;
    show();
  });
  part("previous").addEventListener("click", () => {
    page -= 1;
    show();
  });
  part("next").addEventListener("click", () => {
    page += 1;
    show();
  });
  if (document.body.dataset.token === "true") {
    signOut("");
  } else {
    open();
  }
})();
