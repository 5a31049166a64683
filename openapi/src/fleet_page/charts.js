"use strict";
// What the page is made of, and the charts of the busiest and the slowest tenants.
const charts = (() => {
  // The charts show this time.
  const WINDOW_MS = 5 * 60 * 1000;

  const part = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en");
  let samples = [];

  function make(name, properties, ...children) {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  }

  function duration(ms) {
    if (ms === null || ms === undefined) return "";
    if (ms < 1000) return ms.toFixed(ms < 10 ? 1 : 0) + " ms";
    const seconds = ms / 1000;
    if (seconds < 120) return seconds.toFixed(0) + " s";
    if (seconds < 7200) return (seconds / 60).toFixed(0) + " min";
    return (seconds / 3600).toFixed(0) + " h";
  }

  // The metrics of the text format that the charts and the versions need.
  function parse(text) {
    const wanted = /^(tenantry_tenant_requests_total|tenantry_tenant_request_duration_seconds_total|tenantry_schema_tenants)\{(.*)\} (\S+)/;
    const found = { at: Date.now(), requests: new Map(), seconds: new Map(), versions: [] };
    for (const line of text.split("\n")) {
      const match = wanted.exec(line);
      if (match === null) continue;
      const label = /(?:tenant|version)="((?:[^"\\]|\\.)*)"/.exec(match[2])?.[1];
      if (label === undefined) continue;
      const value = Number(match[3]);
      if (match[1].endsWith("schema_tenants")) found.versions.push([label, value]);
      else (match[1].includes("seconds") ? found.seconds : found.requests).set(label, value);
    }
    return found;
  }

  function chart(id, entries, text) {
    const most = Math.max(...entries.map(([, value]) => value), 0);
    part(id).replaceChildren(...entries.slice(0, 8).map(([tenant, value]) => {
      const bar = make("i", {});
      bar.style.width = (100 * value) / most + "%";
      return make("li", {}, make("span", { textContent: tenant, title: tenant }), make("b", { textContent: text(value) }), bar);
    }));
  }

  function showCharts() {
    const now = samples.at(-1);
    const then = samples[0];
    const minutes = (now.at - then.at) / 60000;
    const over = samples.length < 2
      ? "Shown after the second reading, in a few seconds."
      : "Over the last " + (minutes < 1 ? Math.round(minutes * 60) + " s" : Math.round(minutes) + " min") + ".";
    const busy = [], slow = [];
    for (const [tenant, count] of now.requests) {
      const requests = count - (then.requests.get(tenant) ?? 0);
      if (tenant === "other" || requests <= 0 || samples.length < 2) continue;
      busy.push([tenant, requests]);
      const seconds = (now.seconds.get(tenant) ?? 0) - (then.seconds.get(tenant) ?? 0);
      slow.push([tenant, (1000 * seconds) / requests]);
    }
    const descending = (one, other) => other[1] - one[1];
    chart("busiest", busy.sort(descending), (value) => number.format(value) + (value === 1 ? " request" : " requests"));
    chart("slowest", slow.sort(descending), (value) => duration(value));
    const none = samples.length >= 2 && busy.length === 0 ? " No tenant had a request." : "";
    part("busiest-hint").textContent = over + none;
    part("slowest-hint").textContent = (samples.length < 2 ? over : "Mean time of a request. " + over) + none;
    part("versions").replaceChildren(...now.versions.map(([version, count]) =>
      make("li", { textContent: version + ": " + number.format(count) + (count === 1 ? " tenant" : " tenants") })));
  }

  function note(metrics) {
    samples.push(parse(metrics));
    samples = samples.filter((sample) => Date.now() - sample.at <= WINDOW_MS);
  }

  function forget() {
    samples = [];
  }

  return { part, number, make, duration, note, showCharts, forget };
})();
