import { Cron } from "croner";

/** A set of minutes, in words of cron: whether a minute belongs to it. */
export type Period = (minute: Date) => boolean;

export interface PeriodRules {
  /** IANA name; empty or `Local`: this machine's. */
  readonly timezone: string;
  /** Where a day of the month and a weekday are both named: minutes that have both, or either of them. */
  readonly days: "both" | "either";
}

/**
 * Five fields (minute hour day month weekday), six (a year last), or seven (seconds first): seconds do not matter, since a period
 * is no trigger.
 * @returns a complaint instead, where it is no such text or there is no such time zone
 */
export function parsePeriod(text: string, { timezone, days }: PeriodRules): Period | string {
  const fields = text.trim().split(/\s+/);
  const minutes = fields.length === 7 ? fields.slice(1) : fields;
  if (minutes.length !== 5 && minutes.length !== 6) {
    return `"${text}" is no period: five fields are wanted (minute hour day month weekday), seven with seconds and year`;
  }
  const complaint = timezoneComplaint(timezone);
  if (complaint !== null) return complaint;
  const zone = isLocal(timezone) ? {} : { timezone };
  try {
    const cron = new Cron(["*", ...minutes].join(" "), { paused: true, domAndDow: days === "both", ...zone });
    // A time zone that is not known shows with the first question only.
    cron.match(new Date());
    return (minute) => cron.match(minute);
  } catch (error) {
    const why = error instanceof Error ? error.message.replace(/^CronPattern: /, "") : String(error);
    return `"${text}" is no period: ${why}`;
  }
}

/** @returns what is wrong with the name of a time zone, or null */
export function timezoneComplaint(name: string): string | null {
  if (isLocal(name)) return null;
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return null;
  } catch {
    return `"${name}" is no time zone that is known: names are such as "Europe/Berlin", or "Local"`;
  }
}

function isLocal(timezone: string): boolean {
  return timezone === "" || timezone.toLowerCase() === "local";
}
