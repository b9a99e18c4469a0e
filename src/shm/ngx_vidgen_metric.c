#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_metric.h"
#include "shm/ngx_vidgen_zone.h"
#include "shm/ngx_vidgen_zone_int.h"


#define ngx_vidgen_counter(name, help)                                        \
    { ngx_string(name), ngx_string("counter"), ngx_string(help) }

#define ngx_vidgen_webhooks(outcome)                                          \
    ngx_vidgen_counter("vidgen_webhooks_total{outcome=\"" outcome "\"}",      \
                       "Webhooks received, by outcome.")

#define ngx_vidgen_generations(outcome)                                       \
    ngx_vidgen_counter("vidgen_generations_total{outcome=\"" outcome "\"}",   \
                       "Generations asked for, by outcome.")

#define ngx_vidgen_verified(outcome)                                          \
    ngx_vidgen_counter("vidgen_verify_total{outcome=\"" outcome "\"}",        \
                       "Webhooks of vidgen_verify, by outcome.")

#define ngx_vidgen_attempts(state)                                            \
    ngx_vidgen_counter("vidgen_attempts_total{state=\"" state "\"}",          \
                       "Requests to providers, by what became of them.")


#define ngx_vidgen_probes(outcome)                                            \
    ngx_vidgen_counter("vidgen_probes_total{outcome=\"" outcome "\"}",        \
                       "Health probes of providers, by outcome.")

#define ngx_vidgen_polls(outcome)                                             \
    ngx_vidgen_counter("vidgen_polls_total{outcome=\"" outcome "\"}",         \
                       "Polls of jobs, by outcome.")

#define ngx_vidgen_alert_messages(outcome)                                    \
    ngx_vidgen_counter("vidgen_alerts_total{outcome=\"" outcome "\"}",        \
                       "Attempts to deliver an alert, by outcome.")

#define ngx_vidgen_key_sets(outcome)                                          \
    ngx_vidgen_counter("vidgen_key_sets_total{outcome=\"" outcome "\"}",      \
                       "Fetches of providers' key sets, by outcome.")


/* the samples of one family stand together and share type and help */

ngx_vidgen_metric_t  ngx_vidgen_metrics[NGX_VIDGEN_METRICS] = {

    [NGX_VIDGEN_WEBHOOK_APPLIED] = ngx_vidgen_webhooks("applied"),
    [NGX_VIDGEN_WEBHOOK_REPLAY] = ngx_vidgen_webhooks("replay"),
    [NGX_VIDGEN_WEBHOOK_IGNORED] = ngx_vidgen_webhooks("ignored"),
    [NGX_VIDGEN_WEBHOOK_PARKED] = ngx_vidgen_webhooks("parked"),
    [NGX_VIDGEN_WEBHOOK_UNKNOWN_JOB] = ngx_vidgen_webhooks("unknown_job"),
    [NGX_VIDGEN_WEBHOOK_BAD_SIGNATURE] = ngx_vidgen_webhooks("bad_signature"),
    [NGX_VIDGEN_WEBHOOK_BAD_REQUEST] = ngx_vidgen_webhooks("bad_request"),
    [NGX_VIDGEN_WEBHOOK_UNAVAILABLE] = ngx_vidgen_webhooks("unavailable"),

    [NGX_VIDGEN_GENERATE_ACCEPTED] = ngx_vidgen_generations("accepted"),
    [NGX_VIDGEN_GENERATE_REPLAY] = ngx_vidgen_generations("replay"),
    [NGX_VIDGEN_GENERATE_REJECTED] = ngx_vidgen_generations("rejected"),
    [NGX_VIDGEN_GENERATE_FAILED] = ngx_vidgen_generations("failed"),
    [NGX_VIDGEN_GENERATE_UNKNOWN] = ngx_vidgen_generations("unknown"),
    [NGX_VIDGEN_GENERATE_UNAVAILABLE] = ngx_vidgen_generations("unavailable"),

    [NGX_VIDGEN_ATTEMPT_ACCEPTED] = ngx_vidgen_attempts("accepted"),
    [NGX_VIDGEN_ATTEMPT_UNSENT] = ngx_vidgen_attempts("unsent"),
    [NGX_VIDGEN_ATTEMPT_REFUSED] = ngx_vidgen_attempts("refused"),
    [NGX_VIDGEN_ATTEMPT_UNKNOWN] = ngx_vidgen_attempts("unknown"),

    [NGX_VIDGEN_LATE_RESULTS] =
        ngx_vidgen_counter("vidgen_late_results_total",
                           "Results that came after their job's end: money "
                           "lost."),

    [NGX_VIDGEN_ORPHANED_RESULTS] =
        ngx_vidgen_counter("vidgen_orphaned_results_total",
                           "Parked results that no job claimed."),

    [NGX_VIDGEN_CREDIT_FUNCTION_ERRORS] =
        ngx_vidgen_counter("vidgen_credit_function_errors_total",
                           "Refunds that the credit function refused."),

    [NGX_VIDGEN_REPLAY_DIFFERS] =
        ngx_vidgen_counter("vidgen_replay_differs_total",
                           "Replays whose body differs from the first."),

    [NGX_VIDGEN_VERIFY_ACCEPTED] = ngx_vidgen_verified("accepted"),
    [NGX_VIDGEN_VERIFY_RELEASED] = ngx_vidgen_verified("released"),
    [NGX_VIDGEN_VERIFY_REPLAY] = ngx_vidgen_verified("replay"),
    [NGX_VIDGEN_VERIFY_IN_FLIGHT] = ngx_vidgen_verified("in_flight"),
    [NGX_VIDGEN_VERIFY_BAD_SIGNATURE] = ngx_vidgen_verified("bad_signature"),
    [NGX_VIDGEN_VERIFY_BAD_REQUEST] = ngx_vidgen_verified("bad_request"),
    [NGX_VIDGEN_VERIFY_UNAVAILABLE] = ngx_vidgen_verified("unavailable"),
    [NGX_VIDGEN_VERIFY_DRY_RUN] = ngx_vidgen_verified("dry_run"),

    [NGX_VIDGEN_PROBE_PASSED] = ngx_vidgen_probes("passed"),
    [NGX_VIDGEN_PROBE_FAILED] = ngx_vidgen_probes("failed"),
    [NGX_VIDGEN_PROBE_CREDENTIALS] = ngx_vidgen_probes("credentials"),

    [NGX_VIDGEN_POLL_ENDED] = ngx_vidgen_polls("ended"),
    [NGX_VIDGEN_POLL_OPEN] = ngx_vidgen_polls("open"),
    [NGX_VIDGEN_POLL_FAILED] = ngx_vidgen_polls("failed"),

    [NGX_VIDGEN_ALERT_SENT] = ngx_vidgen_alert_messages("sent"),
    [NGX_VIDGEN_ALERT_FAILED] = ngx_vidgen_alert_messages("failed"),

    [NGX_VIDGEN_KEYS_FETCHED] = ngx_vidgen_key_sets("fetched"),
    [NGX_VIDGEN_KEYS_FAILED] = ngx_vidgen_key_sets("failed")
};


void
ngx_vidgen_metric_add(ngx_vidgen_zone_t *zone, ngx_vidgen_metric_e metric,
    ngx_uint_t n)
{
    (void) ngx_atomic_fetch_add(&zone->sh->metrics[metric], n);
}


ngx_atomic_uint_t
ngx_vidgen_metric_get(ngx_vidgen_zone_t *zone, ngx_vidgen_metric_e metric)
{
    return zone->sh->metrics[metric];
}
