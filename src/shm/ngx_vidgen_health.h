#ifndef _NGX_VIDGEN_HEALTH_H_INCLUDED_
#define _NGX_VIDGEN_HEALTH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_zone.h"


/*
 * Provider health in the shared zone, keyed by provider name.  Written by
 * probes (the monitor) and by live traffic (the workers).
 */

typedef enum {
    NGX_VIDGEN_HEALTHY = 0,
    NGX_VIDGEN_DEGRADED,
    NGX_VIDGEN_DOWN
} ngx_vidgen_health_e;

extern ngx_str_t  ngx_vidgen_health_names[];     /* by ngx_vidgen_health_e */

/* the reason that a provider is degraded, not down, if it refuses our key */
extern ngx_str_t  ngx_vidgen_health_credentials;

typedef struct {
    ngx_uint_t             fails;        /* in a row that make it down */
    ngx_uint_t             passes;       /* in a row that end an outage */
    ngx_msec_t             slow;         /* slower is degraded */
    ngx_msec_t             interval;     /* between probes */
} ngx_vidgen_health_rule_t;

/* of the last probe, each part for itself; 0 where it did not come to that */
typedef struct {
    uint32_t               dns_ms;
    uint32_t               connect_ms;
    uint32_t               tls_ms;
    uint32_t               total_ms;
} ngx_vidgen_health_times_t;

typedef struct {
    ngx_vidgen_health_e    status;
    ngx_uint_t             failures;     /* consecutive */
    ngx_uint_t             response_time_ms;
    time_t                 last_check;   /* 0: never */
    time_t                 since;        /* of the last change; 0: never */
    time_t                 cooldown;     /* until then not to be asked */
    u_char                 reason[32];   /* of that change, while degraded
                                            the latest; NUL-terminated */
    time_t                 renewed;      /* a probe, or live traffic that was
                                            let in, last said it; 0: nobody */
    ngx_vidgen_health_times_t  times;
} ngx_vidgen_health_t;


/*
 * Takes a copy.  A provider that the zone does not know yet is healthy and
 * never checked.
 */
void ngx_vidgen_health_get(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    ngx_vidgen_health_t *health);

/*
 * One signal.  ok, response_time_ms and reason (at most 31 bytes are kept)
 * say what happened; probe: it came from a probe, which sets last_check.  The
 * reason "credentials" is no failure, it leaves degraded; slow without a
 * reason gets "slow".  A failure of live traffic asks for a probe, see
 * ngx_vidgen_relay.h.  Returns 1 if the status changed, with the new state in
 * *health.
 */
ngx_uint_t ngx_vidgen_health_signal(ngx_vidgen_zone_t *zone,
    ngx_str_t *provider, ngx_vidgen_health_rule_t *rule, ngx_uint_t probe,
    ngx_uint_t ok, ngx_msec_t response_time_ms, ngx_str_t *reason,
    ngx_vidgen_health_t *health);

/*
 * What was known of a provider before the zone was made; nothing happens
 * where anything was heard of it since.
 */
void ngx_vidgen_health_seed(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    ngx_vidgen_health_t *health);

/* What the last probe's parts took. */
void ngx_vidgen_health_times(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    ngx_vidgen_health_times_t *times);

/*
 * Whether the provider may be asked for a generation, whatever its cooldown.
 * NGX_OK: it is not down; NGX_AGAIN: it is, but nobody renewed that for two
 * intervals, so it gets a trial, one in an interval for all processes: claim
 * takes it; NGX_DECLINED: it is down.
 */
ngx_int_t ngx_vidgen_health_admit(ngx_vidgen_zone_t *zone,
    ngx_str_t *provider, ngx_vidgen_health_rule_t *rule, ngx_uint_t claim);

/*
 * The provider asked to be left alone until then (a 429).  Only ever
 * extended, and 10 minutes from now at most.
 */
void ngx_vidgen_health_cooldown(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    time_t until);


#endif /* _NGX_VIDGEN_HEALTH_H_INCLUDED_ */
