// The page at /docs: finds what one looks for, and opens what an address leads to.

const form = document.getElementById("search");
const words = document.getElementById("words");
const found = document.getElementById("found");
const all = [...document.querySelectorAll("details.one")];
const groups = [...document.querySelectorAll("details.group, nav > details")];
const texts = new Map(all.map((one) => [one, one.textContent.toLowerCase()]));
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
let opened = null; // which groups were open before a search

function search() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = all.filter((one) => wanted.every((word) => texts.get(one).includes(word)));
  const shown = new Set(fits);
  for (const one of all) links.get(one.id).parentElement.hidden = one.hidden = !shown.has(one);
  if (wanted.length) opened ??= groups.filter((group) => group.open);
  for (const group of groups) {
    group.hidden = !group.querySelector("details.one:not([hidden]), li:not([hidden])");
    group.open = wanted.length > 0 || (opened?.includes(group) ?? group.open);
  }
  if (!wanted.length) opened = null;
  found.textContent = wanted.length ? `${fits.length} of ${all.length}` : "";
}

/** What the address leads to, whatever it is folded into. */
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let node = target?.closest("details"); node; node = node.parentElement.closest("details")) {
    node.open = true;
    if (node.hidden) clear();
  }
  target?.scrollIntoView();
}

function clear() {
  words.value = "";
  search();
}

/** Whoever unfolds something has its address to pass on. */
function named({ target }) {
  if (target.open && target.matches("details.one")) history.replaceState(null, "", `#${target.id}`);
}

form.hidden = false;
form.addEventListener("submit", (event) => event.preventDefault());
words.addEventListener("input", search);
addEventListener("hashchange", unfold);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target === words) return;
  event.preventDefault();
  words.focus();
});
document.querySelector("main").addEventListener("toggle", named, true);
if (location.hash) unfold();
search(); // what a browser kept in the field over a reload
