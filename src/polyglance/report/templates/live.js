// Asks the server for the page again and puts its content in the place of the old one. Without an answer it says so; an
// answer without a page, such as that the study cannot be read, is shown.
const refreshS = Number(document.documentElement.dataset.refreshS);
let answered = Date.now();
let problem = "";
if (location.search) history.replaceState(null, "", location.pathname);

const showAge = () => {
  const age = document.getElementById("age");
  const seconds = Math.round((Date.now() - answered) / 1000);
  const late = seconds > 3 * refreshS;
  age.dataset.text ??= age.textContent;
  const silence = late ? `No answer for ${seconds} s: is the server still there?` : "";
  age.classList.toggle("late", Boolean(problem || silence));
  age.textContent = [age.dataset.text, problem || silence].filter(Boolean).join(". ");
};

const refresh = async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(20000) });
    const text = await answer.text();
    problem = answer.ok ? "" : `The server says: ${text.trim()}`;
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(text, "text/html");
    const [old, fresh] = [document.querySelector("main"), page.querySelector("main")];
    if (!fresh) return;
    const places = [...old.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    old.replaceWith(fresh);
    document.querySelectorAll("main .scroll").forEach((box, number) => (box.scrollLeft = places[number] ?? 0));
    document.title = page.title;
    answered = Date.now();
  } catch {
    problem = "";
    // No answer: showAge says how long.
  }
};

setInterval(showAge, 1000);
setInterval(refresh, 1000 * refreshS);
document.addEventListener("visibilitychange", refresh);
