#ifndef _NGX_VIDGEN_METRIC_H_INCLUDED_
#define _NGX_VIDGEN_METRIC_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_zone.h"


/*
 * Counters shared by all processes.  The table in ngx_vidgen_metric.c gives
 * each its name, type and help; this list gives its place, so it only grows
 * at the end (the zone survives reloads).
 */

typedef enum {
    /* webhooks by outcome */
    NGX_VIDGEN_WEBHOOK_APPLIED = 0,
    NGX_VIDGEN_WEBHOOK_REPLAY,           /* answered from the zone or the db */
    NGX_VIDGEN_WEBHOOK_IGNORED,          /* late, contradictory, no verdict */
    NGX_VIDGEN_WEBHOOK_PARKED,
    NGX_VIDGEN_WEBHOOK_UNKNOWN_JOB,
    NGX_VIDGEN_WEBHOOK_BAD_SIGNATURE,
    NGX_VIDGEN_WEBHOOK_BAD_REQUEST,
    NGX_VIDGEN_WEBHOOK_UNAVAILABLE,
    /* generations by outcome */
    NGX_VIDGEN_GENERATE_ACCEPTED,
    NGX_VIDGEN_GENERATE_REPLAY,
    NGX_VIDGEN_GENERATE_REJECTED,        /* the client's fault */
    NGX_VIDGEN_GENERATE_FAILED,          /* every candidate failed */
    NGX_VIDGEN_GENERATE_UNKNOWN,         /* 202: a provider may have it */
    NGX_VIDGEN_GENERATE_UNAVAILABLE,
    /* attempts by send state */
    NGX_VIDGEN_ATTEMPT_ACCEPTED,
    NGX_VIDGEN_ATTEMPT_UNSENT,
    NGX_VIDGEN_ATTEMPT_REFUSED,
    NGX_VIDGEN_ATTEMPT_UNKNOWN,
    /* money */
    NGX_VIDGEN_LATE_RESULTS,             /* a success after the job's end */
    NGX_VIDGEN_ORPHANED_RESULTS,
    NGX_VIDGEN_CREDIT_FUNCTION_ERRORS,
    NGX_VIDGEN_REPLAY_DIFFERS,           /* a replay whose body differs */
    /* webhooks of vidgen_verify by outcome */
    NGX_VIDGEN_VERIFY_ACCEPTED,          /* the application answered 2xx */
    NGX_VIDGEN_VERIFY_RELEASED,          /* it did not */
    NGX_VIDGEN_VERIFY_REPLAY,
    NGX_VIDGEN_VERIFY_IN_FLIGHT,
    NGX_VIDGEN_VERIFY_BAD_SIGNATURE,
    NGX_VIDGEN_VERIFY_BAD_REQUEST,
    NGX_VIDGEN_VERIFY_UNAVAILABLE,
    NGX_VIDGEN_VERIFY_DRY_RUN,           /* passed on by vidgen_dry_run */
    /* the monitor's work */
    NGX_VIDGEN_PROBE_PASSED,
    NGX_VIDGEN_PROBE_FAILED,
    NGX_VIDGEN_PROBE_CREDENTIALS,
    NGX_VIDGEN_POLL_ENDED,               /* a result */
    NGX_VIDGEN_POLL_OPEN,                /* an answer that is none */
    NGX_VIDGEN_POLL_FAILED,              /* no answer to read */
    NGX_VIDGEN_ALERT_SENT,
    NGX_VIDGEN_ALERT_FAILED,
    NGX_VIDGEN_KEYS_FETCHED,
    NGX_VIDGEN_KEYS_FAILED,
    NGX_VIDGEN_METRICS
} ngx_vidgen_metric_e;

typedef struct {
    ngx_str_t              name;         /* Prometheus form, with labels */
    ngx_str_t              type;
    ngx_str_t              help;
} ngx_vidgen_metric_t;

extern ngx_vidgen_metric_t  ngx_vidgen_metrics[NGX_VIDGEN_METRICS];


void ngx_vidgen_metric_add(ngx_vidgen_zone_t *zone, ngx_vidgen_metric_e metric,
    ngx_uint_t n);

ngx_atomic_uint_t ngx_vidgen_metric_get(ngx_vidgen_zone_t *zone,
    ngx_vidgen_metric_e metric);


#endif /* _NGX_VIDGEN_METRIC_H_INCLUDED_ */
