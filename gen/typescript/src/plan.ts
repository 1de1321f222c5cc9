import { Code, type ConnectError } from "@connectrpc/connect";

import { RetryInfoSchema } from "./google/rpc/error_details_pb.js";

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

export function planAfter(error: ConnectError): Plan {
  const [retry] = error.findDetails(RetryInfoSchema);
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
    case Code.DeadlineExceeded:
    case Code.Unknown:
    case Code.Internal:
      plan.halve = true;
      break;
    default:
      // RESOURCE_EXHAUSTED without RetryInfo is a message that is too large.
      plan.poison = plan.halve = retry === undefined;
  }
  return plan;
}

/** A gRPC code as the contract writes it: "RESOURCE_EXHAUSTED". */
export function codeName(code: Code): string {
  return (Code[code] ?? "").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
