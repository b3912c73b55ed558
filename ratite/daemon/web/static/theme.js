// Before the first paint: the colours that were chosen.  A file of its own, since the page allows no script inside it.
(() => {
  try {
    const chosen = localStorage.getItem("ratite-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage may be forbidden; then the system's colours hold.
  }
})();
