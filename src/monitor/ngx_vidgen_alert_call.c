#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "monitor/ngx_vidgen_alert_int.h"
#include "monitor/ngx_vidgen_monitor_int.h"


#define NGX_VIDGEN_ALERT_MARGIN  5000    /* ms, lease beyond the timeout */


typedef struct {
    ngx_vidgen_monitor_call_t    call;
    ngx_vidgen_alert_t          *alert;
    union {
        ngx_vidgen_store_alert_t    ask;
        ngx_vidgen_store_alerted_t  tell;
    } params;
} ngx_vidgen_alert_call_t;


static void ngx_vidgen_alert_asked(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static void ngx_vidgen_alert_told(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);


ngx_int_t
ngx_vidgen_alert_ask(ngx_vidgen_alert_t *alert)
{
    ngx_pool_t                *pool;
    ngx_vidgen_monitor_t      *monitor;
    ngx_vidgen_alert_conf_t   *conf;
    ngx_vidgen_alert_call_t   *call;
    ngx_vidgen_store_alert_t  *params;

    monitor = alert->monitor;
    conf = monitor->conf->alert;

    call = ngx_vidgen_monitor_call_create(monitor,
                                          sizeof(ngx_vidgen_alert_call_t),
                                          ngx_vidgen_alert_asked);
    if (call == NULL) {
        return NGX_ERROR;
    }

    pool = call->call.pool;
    params = &call->params.ask;
    call->alert = alert;

    params->subject = alert->name;
    params->word = alert->word;
    params->holder = monitor->alerter->holder;

    if (ngx_vidgen_text_number(pool, &params->since,
                               ngx_vidgen_alert_since(alert)) != NGX_OK
        || ngx_vidgen_text_number(pool, &params->every, conf->every)
           != NGX_OK
        || ngx_vidgen_text_number(pool, &params->repeat, conf->repeat)
           != NGX_OK
        || ngx_vidgen_text_number(pool, &params->lease,
                                  monitor->conf->timeout
                                  + NGX_VIDGEN_ALERT_MARGIN) != NGX_OK
        || ngx_vidgen_monitor_call_start(&call->call, NGX_VIDGEN_STORE_ALERT,
                                         params) != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NGX_BUSY;
    }

    alert->busy = 1;

    return NGX_OK;
}


static void
ngx_vidgen_alert_asked(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_alert_call_t *asked = call->data;

    ngx_vidgen_alert_t            *alert;
    ngx_vidgen_store_alert_row_t   row;

    alert = asked->alert;
    alert->busy = 0;

    if (ngx_vidgen_monitor_call_check(&asked->call, result) == NGX_OK
        && ngx_vidgen_store_row(result, &row, sizeof(row)) == NGX_OK)
    {
        ngx_vidgen_alert_obey(alert, &row);

    } else {
        ngx_vidgen_alert_unanswered(alert);
    }

    ngx_destroy_pool(asked->call.pool);
}


ngx_int_t
ngx_vidgen_alert_tell(ngx_vidgen_alert_t *alert, ngx_uint_t sent,
    ngx_uint_t alone, ngx_msec_t pause)
{
    ngx_pool_t                  *pool;
    ngx_vidgen_monitor_t        *monitor;
    ngx_vidgen_alert_call_t     *call;
    ngx_vidgen_store_alerted_t  *params;

    monitor = alert->monitor;

    call = ngx_vidgen_monitor_call_create(monitor,
                                          sizeof(ngx_vidgen_alert_call_t),
                                          ngx_vidgen_alert_told);
    if (call == NULL) {
        return NGX_ERROR;
    }

    pool = call->call.pool;
    params = &call->params.tell;
    call->alert = alert;

    params->subject = alert->name;
    params->kind = alert->kind;
    params->sent = ngx_vidgen_store_boolean[sent];
    params->alone = ngx_vidgen_store_boolean[alone];
    params->holder = monitor->alerter->holder;

    if (ngx_vidgen_text_number(pool, &params->since, alert->began)
        != NGX_OK
        || ngx_vidgen_text_number(pool, &params->pause, pause) != NGX_OK
        || ngx_vidgen_monitor_call_start(&call->call, NGX_VIDGEN_STORE_ALERTED,
                                         params) != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NGX_BUSY;
    }

    alert->busy = 1;

    return NGX_OK;
}


static void
ngx_vidgen_alert_told(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_alert_call_t *told = call->data;

    ngx_uint_t           sent;
    ngx_vidgen_alert_t  *alert;

    alert = told->alert;
    alert->busy = 0;

    sent = ngx_vidgen_store_true(&told->params.tell.sent);

    if (ngx_vidgen_monitor_call_check(&told->call, result) == NGX_OK) {

        if (ngx_vidgen_store_true(&told->params.tell.alone)) {
            alert->memo.alone = 0;
            ngx_vidgen_alert_keep(alert);
        }

    } else if (sent) {

        /* said, and the others do not know it: to be told later */

        alert->memo.alone = 1;
        alert->next = ngx_current_msec + NGX_VIDGEN_ALERT_AWAIT;
        ngx_vidgen_alert_keep(alert);
    }

    ngx_destroy_pool(told->call.pool);
}
