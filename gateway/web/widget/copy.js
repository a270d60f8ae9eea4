// Copying a text: by the clipboard, or, where a page has none (plain HTTP, some frames), as if one had selected it.

import { el } from "./dom.js";

/** Copies, and says so for a while on the button that was pressed. */
export async function copyText(text, button, words) {
  if (!(await byClipboard(text)) && !bySelection(text, button)) return;
  const { title } = button;
  button.classList.add("copied");
  button.setAttribute("aria-label", words.copied);
  setTimeout(() => {
    button.classList.remove("copied");
    button.setAttribute("aria-label", title);
  }, 1_500);
}

async function byClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // there is none, or it is not allowed here
  }
}

function bySelection(text, button) {
  const area = el("textarea", { class: "unseen", readonly: true, "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  // What is selected says that there is something to copy; what that is, to the last tab, is said here.
  area.addEventListener("copy", (event) => {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
  });
  button.after(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  button.focus({ preventScroll: true });
  return copied;
}
