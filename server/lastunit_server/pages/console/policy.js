// The policy's form and the advisor of the console's page.
// Owns what is shown of them and how a change is asked for. Must not read a policy: the ledger does.
"use strict";
(() => {
  const part = (id) => document.getElementById(id);
  const LOOK_MS = 5000;
  let held = null, lookAt = 0, checked = "", back = null;

  const make = (tag, text = "", set = {}) => {
    const element = Object.assign(document.createElement(tag), set);
    element.textContent = text;
    return element;
  };
  const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  const when = (ms) => `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const line = (row) => row.revision === 0 ? "revision 0: the policy that the program brings along"
    : `revision ${row.revision} of ${when(row.effect_ms)} by ${row.actor}: ${row.reason}`;
  const say = (text, isBad = false) => { write(part("policy-note"), text); part("policy-note").className = isBad ? "error" : "soft"; };
  const isChanged = () => held !== null && part("policy-text").value !== held.revision.document;

  const ask = async (where, body) => {
    const set = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const answer = await fetch(where, set).catch(() => null);
    const told = answer ? await answer.json().catch(() => ({})) : { message: "no answer; look at the revision in force before you send it again" };
    return { isDone: Boolean(answer?.ok), told };
  };

  const changes = (rows) => {
    part("policy-changes").hidden = rows.length === 0;
    part("policy-changes").tBodies[0].replaceChildren(...rows.map((row) => {
      const cells = [row.key, row.before ?? "(none)", row.after ?? "(none)"].map((text) => make("td", text));
      const element = make("tr");
      element.append(...cells);
      return element;
    }));
  };

  const buttons = () => {
    const text = part("policy-text").value;
    part("policy-check").disabled = !isChanged();
    // What was checked is what is put: another letter, and it is checked again.
    part("policy-put").disabled = !isChanged() || checked !== text || part("policy-reason").value.trim() === "";
    part("policy-reset").disabled = !isChanged();
  };

  const history = () => {
    part("policy-history").tBodies[0].replaceChildren(...held.revisions.map((row) => {
      const element = make("tr");
      element.append(...[row.revision, when(row.effect_ms), row.actor, row.reason].map((text) => make("td", String(text))));
      const cell = make("td");
      if (row.revision === held.revision.revision) cell.append("in force");
      else if (held.may_put) {
        const button = make("button", "Roll back to it", { type: "button" });
        button.setAttribute("aria-label", `Roll back to revision ${row.revision}`);
        button.addEventListener("click", () => askBack(row));
        cell.append(button);
      }
      element.append(cell);
      return element;
    }));
    part("policy-history").hidden = held.revisions.length === 0;
  };

  const show = (told) => {
    const wasChanged = isChanged();
    const isNew = held === null || told.last_revision !== held.last_revision
      || told.revision.revision !== held.revision.revision || told.may_put !== held.may_put;
    if (held !== null && wasChanged && told.last_revision !== held.last_revision)
      say(`Somebody put revision ${told.last_revision} meanwhile. Take your lines, undo, and put them on top of it.`, true);
    const expected = held?.last_revision;
    held = told;
    // A form that is being filled in keeps the revision that it began with.
    if (wasChanged) held.last_revision = expected;
    write(part("policy-now"), `In force: ${line(told.revision)}${told.next ? `. Waits for its time: ${line(told.next)}` : ""}`
      + (told.trial_reason === null ? "" : `. On trial: ${told.trial_reason}`));
    if (!wasChanged && part("policy-text").value !== told.revision.document) part("policy-text").value = told.revision.document;
    part("policy-text").readOnly = !told.may_put;
    for (const id of ["policy-form-rest", "policy-put-row"]) part(id).hidden = !told.may_put;
    if (isNew) history();
    buttons();
  };

  const advice = (told) => {
    const rows = told.advices.map((row) => {
      const element = make("div");
      const of = row.sale_id ? ` of ${row.sale_id}` : "";
      const now = row.present == null ? "" : ` (now ${row.present})`;
      element.append(make("dt", `${row.key}${of}`), make("dd", `${row.value} ${row.unit}${now}`),
        make("dd", row.arithmetic, { className: "sum" }), make("dd", row.basis, { className: "soft" }));
      return element;
    });
    const missing = told.missing.map((row) => {
      const element = make("div");
      element.append(make("dt", row.key), make("dd", "not advised"), make("dd", row.why, { className: "soft" }));
      return element;
    });
    const list = part("advice");
    const text = [...rows, ...missing].map((element) => element.textContent).join();
    // Nothing jumps under a reader while nothing has changed.
    if (list.dataset.text !== text) { list.dataset.text = text; list.replaceChildren(...rows, ...missing); }
  };

  const look = async () => {
    lookAt = performance.now();
    const [policy, advised] = await Promise.all([ask("policy"), ask("advice")]);
    if (policy.isDone) show(policy.told);
    if (advised.isDone) advice(advised.told);
  };

  const check = async () => {
    const document_ = part("policy-text").value;
    const { isDone, told } = await ask("policy", { document: document_, reason: "a dry run", expected_revision: held.last_revision, is_dry_run: true });
    checked = isDone ? document_ : "";
    changes(isDone ? told.changes : []);
    if (!isDone) say(told.message || "refused", true);
    else say(told.changes.length ? "Valid. It would change:" : "Valid. It would change nothing but its words.");
    buttons();
  };
  const done = async (told, what) => {
    part("policy-text").value = held.revision.document;
    part("policy-reason").value = "";
    checked = "";
    await look();
    changes(told.changes);
    say(`${what} is revision ${told.revision}; in force: revision ${told.in_force_revision}.`);
  };

  part("policy-text").addEventListener("input", () => { changes([]); say(""); buttons(); });
  part("policy-reason").addEventListener("input", buttons);
  part("policy-check").addEventListener("click", check);
  part("policy-reset").addEventListener("click", () => {
    part("policy-text").value = held.revision.document;
    changes([]);
    say("");
    look();
  });
  part("policy-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (part("policy-put").disabled) { if (!part("policy-check").disabled) check(); return; }
    const body = { document: part("policy-text").value, reason: part("policy-reason").value.trim(), expected_revision: held.last_revision, is_dry_run: false };
    const { isDone, told } = await ask("policy", body);
    if (isDone) await done(told, "Your policy"); else say(told.message || "refused", true);
  });

  const askBack = (row) => {
    back = { revision: row.revision, expected_revision: held.last_revision };
    write(part("back-title"), `Roll back to revision ${row.revision}`);
    write(part("back-effect"), `${row.actor} put it: ${row.reason}. Its document is put again as a new revision.`);
    write(part("back-error"), "");
    part("back-reason").value = "";
    part("back").showModal();
    part("back-reason").focus();
  };
  part("back-cancel").addEventListener("click", () => part("back").close());
  part("back-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { isDone, told } = await ask("policy/rollback", { ...back, reason: part("back-reason").value.trim() });
    if (!isDone) { write(part("back-error"), told.message || "refused"); return; }
    part("back").close();
    await done(told, `The document of revision ${back.revision}`);
  });

  document.addEventListener("looked", () => { if (held === null || performance.now() - lookAt > LOOK_MS) look(); });
  document.addEventListener("signed-out", () => { held = null; checked = ""; part("policy-text").value = ""; changes([]); say(""); });
})();
