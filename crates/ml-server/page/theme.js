// Before anything is painted: light or dark, where the user has chosen.
"use strict";
try {
  const theme = localStorage.getItem("ml-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing shows what the system prefers.
}
