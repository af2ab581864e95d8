import { useEffect, useState } from "react";
import { recall, remember } from "./storage";

export type Theme = "light" | "dark";

const storageKey = "mekong.theme";
const systemDark = () => window.matchMedia("(prefers-color-scheme: dark)");

function chosenTheme(): Theme | null {
  const stored = recall(storageKey);
  return stored === "light" || stored === "dark" ? stored : null;
}

/** The theme in force: what was chosen, else what the system asks for, followed when it changes. */
export function useTheme(): [Theme, (theme: Theme) => void] {
  const [chosen, setChosen] = useState<Theme | null>(chosenTheme);
  const [dark, setDark] = useState(() => systemDark().matches);

  useEffect(() => {
    const query = systemDark();
    const follow = () => setDark(query.matches);
    query.addEventListener("change", follow);
    return () => query.removeEventListener("change", follow);
  }, []);

  const theme = chosen ?? (dark ? "dark" : "light");
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);

  return [
    theme,
    (next) => {
      remember(storageKey, next);
      setChosen(next);
    },
  ];
}
