// Runs before anything is drawn, so that wrong colours do not flash.
try {
  const chosen = localStorage.getItem("queuectl-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch { /* storage is switched off: the system's choice holds */ }
