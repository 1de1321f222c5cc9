import { Code, type ConnectError } from "@connectrpc/connect";

import { ErrorInfoSchema, RetryInfoSchema } from "./google/rpc/error_details_pb.js";

/** How to go on after a stream failed. */
export interface Plan {
  /** Repeating does not help. */
  hopeless: boolean;
  /** Something in it is refused: find out which request. */
  poison: boolean;
  /** Send half as much at a time. */
  halve: boolean;
  /** What the server asked for. */
  retryAfterMs: number;
}

/** The reasons that stay the same however often the same is sent. */
export const REFUSALS: ReadonlySet<string> = new Set([
  "INVALID_FIELD",
  "LIMIT_EXCEEDED",
  "MALFORMED_MESSAGE",
  "NOT_FOUND",
  "REQUEST_ID_REUSED",
  "REQUEST_ERASED",
]);
/** How gRPC's implementations say that a message is. */
const TOO_LARGE = /larger than (max|configured)|message exceeds|message (length )?too large/i;

/**
 * Takes for a refusal what Reflexio or gRPC itself will say each time; all else passes, and first of all what there was
 * too much of at once.
 */
export function planAfter(error: ConnectError): Plan {
  const [retry] = error.findDetails(RetryInfoSchema);
  const reason = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "reflexio")?.reason ?? "";
  const delay = retry?.retryDelay;
  const plan = { hopeless: false, poison: false, halve: false, retryAfterMs: 0 };
  if (delay) {
    plan.retryAfterMs = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
  }
  switch (error.code) {
    case Code.Unauthenticated:
    case Code.PermissionDenied:
    case Code.Unimplemented:
      plan.hopeless = true;
      break;
    case Code.Unavailable:
    case Code.Aborted:
    case Code.Canceled:
      break;
    case Code.ResourceExhausted: {
      const tooLarge = reason === "" && TOO_LARGE.test(error.rawMessage);
      plan.poison = plan.halve = !retry && (REFUSALS.has(reason) || tooLarge);
      break;
    }
    default:
      plan.poison = REFUSALS.has(reason);
      plan.halve = true;
  }
  return plan;
}

/** A gRPC code as the contract writes it: "RESOURCE_EXHAUSTED". */
export function codeName(code: Code): string {
  return (Code[code] ?? "").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
