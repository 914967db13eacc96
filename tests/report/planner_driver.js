// Drives the planner's page as a person would, and leaves what it saw in the body's data-seen.
window.addEventListener("load", () => {
  const seen = {};
  const saved = [];
  HTMLAnchorElement.prototype.click = function () { saved.push([this.download, this.href.slice(0, 60), this.href.length]); };
  const at = (id) => document.getElementById(`planner-${id}`);
  const enter = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event("input", { bubbles: true })); };
  const later = (steps) => steps.length
    ? (steps[0](), setTimeout(() => later(steps.slice(1)), 60))
    : (document.body.dataset.seen = JSON.stringify({ ...seen, saved }));
  const money = () => Number(at("target-money").dataset.value);
  const pointer = (name, type, share) => {
    const place = at(name).getBoundingClientRect();
    const where = { clientX: place.left + place.width / 2, clientY: place.top + place.height * share, pointerId: 1, bubbles: true };
    at(name).setPointerCapture = () => {};
    at(name).dispatchEvent(new PointerEvent(type, where));
  };
  const targetLine = () => {
    const line = [...at("loss").querySelectorAll("line")].find((one) => one.getAttribute("style").includes("ns-resize"));
    return Number(line.getAttribute("y1")) / at("loss").viewBox.baseVal.height;
  };
  later([
    () => { seen.width = innerWidth; seen.wider = document.documentElement.scrollWidth > innerWidth; seen.money = money(); enter("price", "5"); },
    () => { seen.twice = money(); enter("price", "-3"); },
    () => { seen.refused = [money(), at("price").validationMessage]; enter("price", "2.5"); enter("languages-slider", "13"); },
    () => { seen.languages = money(); enter("languages-slider", "6"); enter("target-slider", "700"); },
    () => { seen.slid = Number(at("target").value); enter("target", "2.65"); },
    () => { pointer("loss", "pointerdown", targetLine()); pointer("loss", "pointermove", targetLine() - 0.1); pointer("loss", "pointerup", 0.3); },
    () => { seen.dragged = Number(at("target").value); pointer("isoloss", "pointermove", 0.5); seen.reading = at("isoloss-value").textContent; },
    () => { at("loss").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true })); seen.keys = at("loss-value").textContent; },
    () => { at("loss").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true })); },
    () => { seen.keyed = Number(at("target").value); document.querySelector('[data-model="0.4b"]').click(); },
    () => { seen.model = at("target-head").textContent; for (const one of document.querySelectorAll("[data-kind]")) one.click(); },
    () => {}, () => {}, () => {},
  ]);
});
