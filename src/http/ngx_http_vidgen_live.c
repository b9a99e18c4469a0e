#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_live.h"
#include "shm/ngx_vidgen_health.h"
#include "shm/ngx_vidgen_relay.h"


#define NGX_HTTP_VIDGEN_LIVE_FAILURES                                         \
    (NGX_VIDGEN_NEXT_ERROR|NGX_VIDGEN_NEXT_TIMEOUT                            \
     |NGX_VIDGEN_NEXT_HTTP_5XX|NGX_VIDGEN_NEXT_INVALID_ANSWER)

#define NGX_HTTP_VIDGEN_LIVE_CREDENTIALS                                      \
    (NGX_VIDGEN_NEXT_HTTP_401|NGX_VIDGEN_NEXT_HTTP_402                        \
     |NGX_VIDGEN_NEXT_HTTP_403)


void
ngx_http_vidgen_live_note(ngx_http_vidgen_operation_t *op)
{
    ngx_str_t            *reason;
    ngx_uint_t            ok, next;
    ngx_msec_t            ms;
    ngx_vidgen_health_t   health;

    static ngx_str_t  none = ngx_null_string;

    ngx_http_vidgen_live_listen(op->mcf, op->task.log);

    next = op->verdict.next;
    ok = op->verdict.state == NGX_VIDGEN_ATTEMPT_STATE_ACCEPTED;
    reason = &none;

    /* cut: nobody waited for what the provider would have said */

    if (op->attempt.cut) {
        return;
    }

    if (!ok) {

        if (next & NGX_HTTP_VIDGEN_LIVE_CREDENTIALS) {
            reason = &ngx_vidgen_health_credentials;

        } else if ((next & NGX_HTTP_VIDGEN_LIVE_FAILURES)
                   && op->attempt.response.http_status
                      != NGX_HTTP_REQUEST_TIME_OUT)
        {
            reason = &op->verdict.reason;

        } else {
            /* other 4xx and 429 say nothing */
            return;
        }
    }

    ms = ngx_current_msec - op->attempt.started;

    (void) ngx_vidgen_health_signal(op->mcf->zone,
                                    &op->candidate->provider->name,
                                    &op->mcf->monitor.rule, 0, ok, ms, reason,
                                    &health);
}


ngx_uint_t
ngx_http_vidgen_live_admit(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_candidate_t *candidate)
{
    return ngx_vidgen_health_admit(op->mcf->zone, &candidate->provider->name,
                                   &op->mcf->monitor.rule, 1)
           != NGX_DECLINED;
}


void
ngx_http_vidgen_live_listen(ngx_http_vidgen_main_conf_t *mcf, ngx_log_t *log)
{
    /* where nginx ends, the monitor does so at once, and the workers later */

    if (mcf->monitor.enabled && mcf->zone && !ngx_exiting
        && ngx_vidgen_relay_missed(mcf->zone))
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "vidgen: the monitor has been silent for %T seconds",
                      ngx_vidgen_relay_age(mcf->zone));
    }
}
