// Signs webhooks as those who send them do, with their own libraries.
//
// Reads a JSON array of { library, secret, id, time, body } and prints the
// headers that each library makes for it, a JSON array of objects.

import { readFileSync } from "node:fs";
import { sign as octokit } from "@octokit/webhooks-methods";
import { Webhook } from "standardwebhooks";
import { Stripe } from "stripe";
import { Webhook as Svix } from "svix";

const libraries = {

    "standardwebhooks": ({ secret, id, time, body }) => ({
        "webhook-id": id,
        "webhook-timestamp": String(time),
        "webhook-signature":
            new Webhook(secret).sign(id, new Date(time * 1000), body),
    }),

    "svix": ({ secret, id, time, body }) => ({
        "svix-id": id,
        "svix-timestamp": String(time),
        "svix-signature":
            new Svix(secret).sign(id, new Date(time * 1000), body),
    }),

    "stripe": ({ secret, time, body }) => ({
        "stripe-signature": Stripe.webhooks.generateTestHeaderString(
            { payload: body, secret, timestamp: time }),
    }),

    "@octokit/webhooks-methods": async ({ secret, body }) => ({
        "x-hub-signature-256": await octokit(secret, body),
    }),
};

const wanted = JSON.parse(readFileSync(0, "utf8"));
const headers = await Promise.all(
    wanted.map((webhook) => libraries[webhook.library](webhook)));

console.log(JSON.stringify(headers));
