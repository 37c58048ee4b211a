// What both clients check with.

export const url = process.env.EZ_URL!;
export const token = process.env.EZ_TOKEN!;

export function check(name: string, ok: boolean, got: unknown): void {
  if (!ok) {
    console.error(`${name}: ${JSON.stringify(got)}`);
    process.exit(1);
  }
}
