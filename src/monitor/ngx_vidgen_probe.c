#include <ngx_config.h>
#include <ngx_core.h>
#include "monitor/ngx_vidgen_monitor_int.h"
#include "shm/ngx_vidgen_metric.h"
#include "shm/ngx_vidgen_relay.h"


#define NGX_VIDGEN_PROBE_BODY  65536     /* bytes that are read at most */


struct ngx_vidgen_prober_s {
    ngx_vidgen_monitor_t        *monitor;
    ngx_vidgen_provider_t       *provider;
    ngx_pool_t                  *pool;       /* of the one under way */
    ngx_msec_t                   next;
    unsigned                     scheduled:1;
    unsigned                     complained:1;   /* that none can be made */
};


static void ngx_vidgen_probe_schedule(ngx_vidgen_prober_t *probe,
    int64_t started);
static void ngx_vidgen_probe_start(ngx_vidgen_prober_t *probe);
static void ngx_vidgen_probe_done(ngx_vidgen_fetch_request_t *request);
static ngx_uint_t ngx_vidgen_probe_judge(ngx_vidgen_prober_t *probe,
    ngx_vidgen_fetch_answer_t *answer, ngx_pool_t *pool, ngx_str_t *reason);
static void ngx_vidgen_probe_signal(ngx_vidgen_prober_t *probe,
    ngx_vidgen_fetch_answer_t *answer, ngx_uint_t ok, ngx_str_t *reason);
static void ngx_vidgen_probe_complain(ngx_vidgen_prober_t *probe,
    const char *why);


ngx_int_t
ngx_vidgen_probe_create(ngx_vidgen_monitor_t *monitor)
{
    ngx_uint_t               i, n;
    ngx_vidgen_provider_t  **provider;

    n = monitor->conf->providers->nelts;
    provider = monitor->conf->providers->elts;

    monitor->probes = ngx_pcalloc(monitor->pool,
                                  n * sizeof(ngx_vidgen_prober_t));
    if (monitor->probes == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        monitor->probes[i].monitor = monitor;
        monitor->probes[i].provider = provider[i];
    }

    return NGX_OK;
}


void
ngx_vidgen_probe_tick(ngx_vidgen_monitor_t *monitor)
{
    int64_t               started;
    ngx_uint_t            i, asked;
    ngx_vidgen_prober_t  *probe;

    if (!ngx_vidgen_chronicle_ready(monitor)) {
        return;
    }

    for (i = 0; i < monitor->conf->providers->nelts; i++) {
        probe = &monitor->probes[i];

        if (probe->provider->probe == NULL || probe->pool) {
            continue;
        }

        asked = ngx_vidgen_relay_probes(monitor->conf->zone,
                                        &probe->provider->name, &started);

        if (!probe->scheduled) {
            ngx_vidgen_probe_schedule(probe, started);
        }

        if (ngx_vidgen_monitor_due(probe->next) || asked) {
            ngx_vidgen_probe_start(probe);
        }
    }
}


ngx_msec_t
ngx_vidgen_probe_wait(ngx_vidgen_monitor_t *monitor)
{
    ngx_uint_t            i;
    ngx_msec_t            wait;
    ngx_vidgen_prober_t  *probe;

    wait = monitor->period;

    for (i = 0; i < monitor->conf->providers->nelts; i++) {
        probe = &monitor->probes[i];

        if (!probe->scheduled || probe->pool) {
            continue;
        }

        if (ngx_vidgen_monitor_due(probe->next)) {
            return 1;
        }

        wait = ngx_min(wait, probe->next - ngx_current_msec);
    }

    return wait;
}


/*
 * The first one here: not if one was made within the interval, and not while
 * another process may be at it, or each reload would be a round of probes.
 */
static void
ngx_vidgen_probe_schedule(ngx_vidgen_prober_t *probe, int64_t started)
{
    int64_t                     now, past;
    ngx_msec_t                  wait;
    ngx_vidgen_health_t         health;
    ngx_vidgen_monitor_conf_t  *conf;

    now = ngx_vidgen_relay_now();
    wait = 0;
    conf = probe->monitor->conf;

    ngx_vidgen_health_get(conf->zone, &probe->provider->name, &health);

    past = now - (int64_t) health.last_check * 1000;

    if (health.last_check && past >= 0
        && past < (int64_t) conf->rule.interval)
    {
        wait = ngx_vidgen_monitor_jitter(conf->rule.interval - past);
    }

    past = now - started;

    if (started / 1000 > health.last_check && past >= 0
        && past < (int64_t) conf->timeout)
    {
        wait = ngx_max(wait, conf->timeout - past);
    }

    probe->scheduled = 1;
    probe->next = ngx_current_msec + wait;
}


static void
ngx_vidgen_probe_start(ngx_vidgen_prober_t *probe)
{
    ngx_int_t                    rc;
    ngx_pool_t                  *pool;
    ngx_vidgen_source_t          source;
    ngx_vidgen_monitor_t        *monitor;
    ngx_vidgen_fetch_request_t  *request;

    monitor = probe->monitor;

    probe->next = ngx_current_msec
                  + ngx_vidgen_monitor_jitter(monitor->conf->rule.interval);

    ngx_vidgen_relay_probe(monitor->conf->zone, &probe->provider->name);

    pool = ngx_create_pool(2048, monitor->log);
    if (pool == NULL) {
        return;
    }

    ngx_memzero(&source, sizeof(ngx_vidgen_source_t));

    request = ngx_vidgen_monitor_request(monitor, probe->provider,
                                         &probe->provider->probe->request,
                                         &source, pool, &rc);
    if (request) {
        request->max = NGX_VIDGEN_PROBE_BODY;
        request->handler = ngx_vidgen_probe_done;
        request->data = probe;
        request->head = 1;
        request->fresh = 1;

        rc = ngx_vidgen_fetch_start(request);
    }

    if (rc != NGX_OK) {
        ngx_destroy_pool(pool);
        ngx_vidgen_probe_complain(probe, rc == NGX_BUSY
                                         ? "too many requests are under way"
                                         : "the request cannot be made");
        return;
    }

    probe->pool = pool;
}


static void
ngx_vidgen_probe_done(ngx_vidgen_fetch_request_t *request)
{
    ngx_vidgen_prober_t *probe = request->data;

    ngx_str_t                   reason;
    ngx_uint_t                  ok;
    ngx_vidgen_fetch_answer_t  *answer;

    answer = &request->answer;

    /* from start to start, unless it has taken longer than that */

    if (ngx_vidgen_monitor_due(probe->next)) {
        probe->next = ngx_current_msec
              + ngx_vidgen_monitor_jitter(probe->monitor->conf->rule.interval);
    }

    if (answer->outcome == NGX_VIDGEN_FETCH_FAILED) {
        ngx_vidgen_probe_complain(probe, answer->detail);

    } else {
        probe->complained = 0;

        ok = ngx_vidgen_probe_judge(probe, answer, probe->pool, &reason);
        ngx_vidgen_probe_signal(probe, answer, ok, &reason);
    }

    ngx_destroy_pool(probe->pool);
    probe->pool = NULL;
}


/* 1: it is there; the reason may say that something is wrong all the same */
static ngx_uint_t
ngx_vidgen_probe_judge(ngx_vidgen_prober_t *probe,
    ngx_vidgen_fetch_answer_t *answer, ngx_pool_t *pool, ngx_str_t *reason)
{
    ngx_array_t  *ok;

    ngx_str_null(reason);

    if (answer->outcome != NGX_VIDGEN_FETCH_ANSWERED) {
        *reason = ngx_vidgen_fetch_outcomes[answer->outcome];
        return 0;
    }

    ok = &probe->provider->probe->ok;

    if (ngx_vidgen_provider_code(ok, answer->status)
        || (ok->nelts == 0 && answer->status / 100 == 2))
    {
        return 1;
    }

    if (answer->status == 401 || answer->status == 403) {
        *reason = ngx_vidgen_health_credentials;
        return 0;
    }

    reason->data = ngx_pnalloc(pool, sizeof("http_") + NGX_INT_T_LEN);

    if (reason->data) {
        reason->len = ngx_sprintf(reason->data, "http_%ui", answer->status)
                      - reason->data;
    }

    return 0;
}


static void
ngx_vidgen_probe_signal(ngx_vidgen_prober_t *probe,
    ngx_vidgen_fetch_answer_t *answer, ngx_uint_t ok, ngx_str_t *reason)
{
    ngx_uint_t                  changed;
    ngx_vidgen_health_t         health;
    ngx_vidgen_metric_e         metric;
    ngx_vidgen_monitor_conf_t  *conf;
    ngx_vidgen_health_times_t   times;

    conf = probe->monitor->conf;

    times.dns_ms = answer->dns_ms;
    times.connect_ms = answer->connect_ms;
    times.tls_ms = answer->tls_ms;
    times.total_ms = answer->total_ms;

    metric = ok ? NGX_VIDGEN_PROBE_PASSED : NGX_VIDGEN_PROBE_FAILED;

    if (reason->data == ngx_vidgen_health_credentials.data) {
        metric = NGX_VIDGEN_PROBE_CREDENTIALS;
    }

    ngx_vidgen_metric_add(conf->zone, metric, 1);

    ngx_log_error(NGX_LOG_INFO, probe->monitor->log, 0,
                  "vidgen: probe of provider \"%V\" %s: HTTP %ui, %s; dns"
                  " %uDms, connect %uDms, tls %uDms, total %uDms",
                  &probe->provider->name, ok ? "passed" : "failed",
                  answer->status, answer->detail, times.dns_ms,
                  times.connect_ms, times.tls_ms, times.total_ms);

    changed = ngx_vidgen_health_signal(conf->zone, &probe->provider->name,
                                       &conf->rule, 1, ok, answer->total_ms,
                                       reason, &health);

    ngx_vidgen_health_times(conf->zone, &probe->provider->name, &times);

    ngx_vidgen_chronicle_write(probe->monitor, probe->provider, &health,
                               ngx_vidgen_relay_now());

    if (changed) {
        ngx_vidgen_chronicle_say(probe->monitor, probe->provider, &health);
        ngx_vidgen_chronicle_flush(probe->monitor);
    }
}


/* ours, not the provider's: nothing is said about it */
static void
ngx_vidgen_probe_complain(ngx_vidgen_prober_t *probe, const char *why)
{
    if (!probe->complained) {
        ngx_log_error(NGX_LOG_ERR, probe->monitor->log, 0,
                      "vidgen: provider \"%V\" cannot be probed: %s",
                      &probe->provider->name, why);
    }

    probe->complained = 1;
}
