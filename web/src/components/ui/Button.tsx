import type { ButtonHTMLAttributes } from "react";

export function Button({ className = "", ...rest }: ButtonHTMLAttributes<HTMLButtonElement>) {
  return (
    <button
      type="button"
      className={`inline-flex min-h-9 items-center justify-center gap-2 rounded-lg border border-line bg-card px-3 text-sm font-medium hover:border-soft hover:bg-sunken ${className}`}
      {...rest}
    />
  );
}
