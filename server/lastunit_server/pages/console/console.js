// The console's page: takes a look a second by server-sent events and shows it.
// Owns what is shown and how an order is asked for. Must not judge: the ledger does.
"use strict";
(() => {
  const part = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en");
  const STALE_MS = 4000;
  const CAUSES = {
    CALM: "nothing presses", IN_FLIGHT: "calls in flight", QUEUE_DEPTH: "too many wait to be paid",
    CALLBACK_LAG: "payment news come late", NO_REPORT: "the order service is silent", OPERATOR: "by hand",
    NOT_OPEN_YET: "not open yet", SALE_PAUSED: "the sale is paused", SALE_ENDED: "the sale is over" };
  const HANDS = [["open", "Open"], ["queueing", "Queue"], ["closed", "Close"], ["automatic", "Auto"]];
  const EFFECTS = {
    open: "Front ends send buyers on, whatever is measured.",
    queueing: "Front ends have buyers wait outside, whatever is measured.",
    closed: "Front ends let nobody new in. Who has a reservation goes on and can pay.",
    automatic: "The measurements decide again." };
  let stream = null, before = null, lastAt = 0, charts = null, saleShown = "", skusAt = 0, order = null;

  const make = (tag, text = "", set = {}) => {
    const element = Object.assign(document.createElement(tag), set);
    element.textContent = text;
    return element;
  };
  const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  const millis = (value) => value == null ? "-" : value < 1 ? `${value.toFixed(2)} ms`
    : value < 1000 ? `${value.toFixed(value < 10 ? 1 : 0)} ms` : span(value / 1000);
  const span = (seconds) => seconds < 90 ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
    : seconds < 5400 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
  const clock = (ms) => new Date(ms).toISOString().slice(11, 19);

  // A table whose rows stay the same elements, so that nothing jumps under a pointer or a reader.
  const table = (id, head, rows) => {
    const found = part(id);
    if (!found.tHead) {
      const row = found.createTHead().insertRow();
      head.forEach((text) => row.append(make("th", text, { scope: "col" })));
      found.createTBody();
    }
    const body = found.tBodies[0];
    while (body.rows.length > rows.length) body.deleteRow(-1);
    rows.forEach((cells, index) => {
      const row = body.rows[index] || body.insertRow();
      cells.forEach((text, column) => write(row.cells[column] || row.insertCell(), String(text)));
    });
  };

  const health = (tone, text) => { part("health").dataset.tone = tone; write(part("health"), text); };

  // The mean and the bound that 99 of 100 stay below, of what came between two looks.
  const spread = (now, was, buckets, total) => {
    const count = now.count - was.count;
    if (count <= 0) return null;
    const list = now[buckets].map(([bound, value], index) => [bound, value - was[buckets][index][1]]);
    let seen = 0;
    const found = list.find(([, value]) => (seen += value) >= count * 0.99) || list.at(-1);
    return { mean: (now[total] - was[total]) / count, high: found[0] };
  };

  const gateCard = (gate) => {
    let card = document.querySelector(`article[data-sale="${CSS.escape(gate.sale_id)}"]`);
    if (!card) {
      card = make("article");
      card.dataset.sale = gate.sale_id;
      const row = make("p", "", { className: "row" });
      for (const [hand, text] of HANDS) {
        const button = make("button", text, { type: "button" });
        button.dataset.hand = hand;
        button.addEventListener("click", () => ask(card.gate, hand, text));
        row.append(button);
      }
      card.append(make("h3", gate.sale_id), make("p", "", { className: "light" }), make("p", "", { className: "why" }),
        make("p", "", { className: "soft numbers" }), make("p", "", { className: "order" }), row);
      part("gates").append(card);
    }
    card.gate = gate;
    card.dataset.state = gate.state;
    const light = card.querySelector(".light");
    light.dataset.tone = { open: "good", queueing: "warn", closed: "bad" }[gate.state];
    write(light, gate.state.toUpperCase() + (gate.is_sold_out ? " · SOLD OUT" : ""));
    const back = gate.come_back_ms == null ? "" : `, come back in ${span(gate.come_back_ms / 1000)}`;
    write(card.querySelector(".why"), `${gate.cause === "CALM" && gate.state !== "open" ? "calm again, getting better by steps" : CAUSES[gate.cause] || gate.cause}${back}, for ${span((gate.as_of_ms - gate.since_ms) / 1000)}`);
    const most = gate.queue_count_max ? ` of ${number.format(gate.queue_count_max)}` : "";
    write(card.querySelector(".numbers"), `${number.format(gate.queue_count)}${most} wait to be paid · lag ${millis(gate.callback_lag_ms)}`
      + ` · pressure ${Math.round(gate.pressure * 100)} %`);
    const held = gate.order;
    const until = held?.until_ms ? ` until ${clock(held.until_ms)} UTC` : "";
    write(card.querySelector(".order"), held ? `${held.actor}${until}: ${held.reason}` : "");
    card.querySelector(".order").hidden = !held;
    const holding = held ? held.hand : "automatic";
    for (const button of card.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.hand === holding));
      button.setAttribute("aria-label", `${button.textContent} the gate of ${gate.sale_id}`);
    }
    card.querySelector(".row").hidden = !gate.may_set;
  };

  const gates = (told) => {
    const names = new Set(told.gates.map((gate) => gate.sale_id));
    for (const card of document.querySelectorAll("article")) if (!names.has(card.dataset.sale)) card.remove();
    told.gates.forEach(gateCard);
    const is_empty = told.gates.length === 0;
    let note = part("gates").querySelector(".empty");
    if (is_empty && !note) part("gates").append(make("p", "No sale is defined yet.", { className: "soft empty" }));
    if (!is_empty && note) note.remove();
  };

  const numbers = (told, seconds) => {
    const rate = (lane, key) => (told.lanes[lane][key] - before.lanes[lane][key]) / seconds;
    const flush = spread(told.flush, before.flush, "count_by_micros_below", "micros_total");
    const queue = spread(told.queue.data, before.queue.data, "count_by_micros_below", "micros_total");
    const lag = spread(told.settlement_lag, before.settlement_lag, "count_by_millis_below", "millis_total");
    const inFlight = Object.values(told.lanes).reduce((sum, lane) => sum + lane.in_flight, 0);
    const overdue = told.oldest_overdue_time_ms;
    const rates = ["offered", "admitted", "refused"].map((key) => rate("reservation", key));
    const hopeless = (told.hopeless_count - before.hopeless_count) / seconds;
    const tiles = [
      ["Admitted a second", number.format(Math.round(rates[1]))], ["Refused a second", number.format(Math.round(rates[2]))],
      ["Sold-out answers a second", number.format(Math.round(hopeless))], ["Calls in flight", number.format(inFlight)],
      ["Flush, 99 of 100 below", flush ? millis(flush.high / 1000) : "-"], ["Wait for the node, 99 of 100", queue ? millis(queue.high / 1000) : "-"],
      ["Payment news lag, mean", lag ? millis(lag.mean) : "-"],
      ["Oldest overdue", overdue == null ? "none" : span(Math.max(0, told.time_ms - overdue) / 1000)],
      ["Expiry brake", told.brake?.is_on_by_operator ? "on, by hand" : told.brake?.is_on_by_lag ? "on, late news" : "off"]];
    if (told.window) tiles.push(["Credit window", `${number.format(told.window.outstanding)} of ${number.format(told.window.limit)}`]);
    const list = part("tiles");
    while (list.children.length > tiles.length) list.lastChild.remove();
    tiles.forEach(([name, value], index) => {
      if (!list.children[index]) { const box = make("div"); box.append(make("dt"), make("dd")); list.append(box); }
      write(list.children[index].firstChild, name);
      write(list.children[index].lastChild, value);
    });
    const now = Date.now() / 1000;
    charts.rates(now, rates);
    charts.flight(now, [inFlight]);
    charts.flush(now, [flush ? flush.mean / 1000 : null, queue ? queue.mean / 1000 : null]);
    charts.lag(now, [lag ? lag.mean / 1000 : null]);
    const order = ["control", "settlement", "reservation", "read"].filter((name) => told.lanes[name]);
    table("lanes", ["lane", "offered", "admitted", "refused", "in flight", "most in flight", "waiting", "tokens left", "refused by (since start)"],
      order.map((name) => [name, ...["offered", "admitted", "refused"].map((key) => number.format(Math.round(rate(name, key)))),
        number.format(told.lanes[name].in_flight), number.format(told.lanes[name].in_flight_peak), number.format(told.lanes[name].waiting),
        told.lanes[name].tokens == null ? "no bucket" : number.format(Math.round(told.lanes[name].tokens)),
        Object.entries(told.lanes[name].refused_by).map(([why, count]) => `${why.replaceAll("_", " ")} ${number.format(count)}`).join(", ") || "-"]));
    const earlier = new Map(before.callers.map((caller) => [caller.name, caller]));
    const since = (caller, key) => Math.max(0, Math.round((caller[key] - (earlier.get(caller.name)?.[key] || 0)) / seconds));
    table("callers", ["caller", "offered a second", "refused a second", "offered", "refused", "refused, share"],
      told.callers.map((caller) => [caller.name, number.format(since(caller, "offered")), number.format(since(caller, "refused")),
        number.format(caller.offered), number.format(caller.refused),
        caller.offered ? `${Math.round(100 * caller.refused / caller.offered)} %` : "-"]));
  };

  const PLACES = ["available", "buffer", "held", "paying", "overdue", "sold", "quarantine"];
  const stock = (told) => {
    const rows = Object.entries(told.units);
    table("stock", ["sale", ...PLACES], rows.map(([sale, units]) => [sale, ...PLACES.map((place) => number.format(units[place] || 0))]));
    const choice = part("sale");
    if (rows.map(([sale]) => sale).join() !== [...choice.options].map((option) => option.value).join()) {
      const kept = choice.value;
      choice.replaceChildren(...rows.map(([sale]) => make("option", sale, { value: sale })));
      if (rows.some(([sale]) => sale === kept)) choice.value = kept;
    }
    if (choice.value && (choice.value !== saleShown || performance.now() - skusAt > 2000)) skus(choice.value);
  };

  const skus = async (sale) => {
    saleShown = sale;
    skusAt = performance.now();
    try {
      const answer = await fetch(`skus?sale=${encodeURIComponent(sale)}`);
      const told = await answer.json();
      if (sale !== part("sale").value) return;
      write(part("skus-note"), answer.ok ? "" : `as last seen: ${told.message}`);
      if (!answer.ok) return;
      table("skus", ["sku", "level", ...PLACES], told.skus.map((row) => [row.sku,
        (row.level || "").replace("LEVEL_", "").toLowerCase().replaceAll("_", " "),
        ...PLACES.map((place) => number.format(Number(row.counters?.[place] || 0)))]));
    } catch { write(part("skus-note"), "as last seen: no answer"); }
  };

  const show = (told) => {
    const at = performance.now();
    const isServing = told.phase === "Serving";
    health(isServing ? "good" : "bad", isServing ? "serving" : `NOT SERVING: ${told.reason} ${told.cause}`);
    write(part("clock"), told.time_ms == null ? "-" : `${clock(told.time_ms)} UTC ·`);
    write(part("who"), told.is_name_proved ? told.caller : "nobody has to sign in");
    part("sign-out").hidden = !told.is_name_proved;
    part("sign-in").hidden = true;
    part("board").hidden = false;
    const isFirst = !charts;
    charts ||= {
      rates: Charts.make(part("charts"), "Reservations, a second", ["offered", "admitted", "refused"]),
      flight: Charts.make(part("charts"), "Calls in flight", ["calls"]),
      flush: Charts.make(part("charts"), "Milliseconds, mean", ["flush", "wait for the node"]),
      lag: Charts.make(part("charts"), "Lag of payment news, seconds, mean", ["lag"]) };
    // Each has its width only once all of them are there.
    if (isFirst) Charts.fit();
    gates(told);
    if (before) numbers(told, Math.max((at - lastAt) / 1000, 0.1));
    stock(told);
    before = told;
    lastAt = at;
    document.dispatchEvent(new Event("looked"));
  };

  const signIn = (text) => {
    stream?.close();
    before = null;
    document.dispatchEvent(new Event("signed-out"));
    health("wait", "signed out");
    part("board").hidden = true;
    part("sign-in").hidden = false;
    write(part("sign-in-error"), text);
    part("token").focus();
  };

  const connect = () => {
    stream?.close();
    stream = new EventSource("events");
    stream.addEventListener("facts", (event) => show(JSON.parse(event.data)));
    stream.addEventListener("ended", () => signIn("The token does not hold any more."));
    stream.addEventListener("error", async () => {
      if (stream.readyState !== EventSource.CLOSED) return;
      const answer = await fetch("events", { method: "GET", headers: { accept: "application/json" } }).catch(() => null);
      const told = answer && !answer.ok ? await answer.json().catch(() => null) : null;
      answer?.body?.cancel().catch(() => {});
      if (answer?.status === 401) signIn("");
      else if (answer?.status === 403) signIn(told?.message || "");
      else { health("bad", told?.message || "no answer"); setTimeout(connect, 2000); }
    });
  };
  setInterval(() => {
    if (lastAt && before && performance.now() - lastAt > STALE_MS) health("bad", `no news for ${span((performance.now() - lastAt) / 1000)}`);
  }, 1000);

  const send = (where, body, method = "POST") =>
    fetch(where, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

  part("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await send("session", { token: part("token").value.trim() }).catch(() => null);
    const told = answer ? await answer.json().catch(() => ({})) : { message: "no answer" };
    part("token").value = "";
    if (answer?.ok) connect(); else write(part("sign-in-error"), told.message || "refused");
  });
  part("sign-out").addEventListener("click", async () => { await send("session", {}, "DELETE").catch(() => null); signIn(""); });

  const ask = (gate, hand, text) => {
    order = { sale_id: gate.sale_id, hand, expected_revision: gate.revision };
    write(part("order-title"), `${text}: ${gate.sale_id}`);
    write(part("order-effect"), EFFECTS[hand]);
    write(part("order-error"), "");
    write(part("order-send"), text);
    part("reason").value = "";
    part("hold-row").hidden = hand === "automatic";
    part("order").showModal();
    part("reason").focus();
  };
  part("order-cancel").addEventListener("click", () => part("order").close());
  part("order-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const hold = order.hand === "automatic" ? 0 : Number(part("hold").value);
    const body = { ...order, reason: part("reason").value.trim(), hold_seconds: hold };
    const answer = await send("gate", body).catch(() => null);
    const told = answer ? await answer.json().catch(() => ({})) : { message: "no answer; look at the gate before you send it again" };
    if (!answer?.ok) { write(part("order-error"), told.message || "refused"); return; }
    part("order").close();
    gateCard({ ...told, may_set: true });
  });
  connect();
})();
