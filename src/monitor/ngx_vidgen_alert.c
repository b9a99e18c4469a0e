#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_id.h"
#include "monitor/ngx_vidgen_alert_int.h"
#include "monitor/ngx_vidgen_monitor_int.h"
#include "shm/ngx_vidgen_metric.h"


#define NGX_VIDGEN_ALERT_RETRY     2000      /* ms, doubled each time */
#define NGX_VIDGEN_ALERT_PATIENCE  60000     /* ms, at most */
#define NGX_VIDGEN_ALERT_ASK       1000      /* ms, until it is asked again */
#define NGX_VIDGEN_ALERT_IN_VAIN   30000     /* ms, for a database that is
                                                there and does not answer */


static void ngx_vidgen_alert_look(ngx_vidgen_alert_t *alert);
static ngx_str_t *ngx_vidgen_alert_word(ngx_vidgen_alert_t *alert);
static ngx_uint_t ngx_vidgen_alert_is_down(ngx_vidgen_alert_t *alert);
static void ngx_vidgen_alert_settled(ngx_vidgen_alert_t *alert);
static void ngx_vidgen_alert_alone(ngx_vidgen_alert_t *alert);
static void ngx_vidgen_alert_deliver(ngx_vidgen_alert_t *alert,
    ngx_str_t *kind, time_t began, ngx_uint_t alone);


ngx_str_t  ngx_vidgen_alert_down = ngx_string("down");
ngx_str_t  ngx_vidgen_alert_up = ngx_string("up");

static ngx_str_t  ngx_vidgen_alert_again = ngx_string("again");

/* by ngx_vidgen_alert_matter_e; no provider can be called so */
static ngx_str_t  ngx_vidgen_alert_matters[] = {
    ngx_string("*database"),
    ngx_string("*clock"),
    ngx_string("*orphans")
};


ngx_int_t
ngx_vidgen_alert_create(ngx_vidgen_monitor_t *monitor)
{
    ngx_uint_t               i, n;
    ngx_vidgen_alert_t      *alert;
    ngx_vidgen_alerter_t    *alerter;
    ngx_vidgen_provider_t  **provider;

    if (monitor->conf->alert == NULL) {
        return NGX_OK;
    }

    n = monitor->conf->providers->nelts;
    provider = monitor->conf->providers->elts;

    alerter = ngx_pcalloc(monitor->pool, sizeof(ngx_vidgen_alerter_t));
    alert = ngx_pcalloc(monitor->pool, (n + NGX_VIDGEN_ALERT_MATTERS)
                                       * sizeof(ngx_vidgen_alert_t));
    if (alerter == NULL || alert == NULL) {
        return NGX_ERROR;
    }

    alerter->alerts = alert;
    alerter->n = n + NGX_VIDGEN_ALERT_MATTERS;
    alerter->holder.len = NGX_VIDGEN_UUID_LEN;
    alerter->holder.data = ngx_pnalloc(monitor->pool, NGX_VIDGEN_UUID_LEN);

    if (alerter->holder.data == NULL
        || ngx_vidgen_uuid7(alerter->holder.data) != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < alerter->n; i++) {
        alert[i].monitor = monitor;

        if (i < n) {
            alert[i].provider = provider[i];
            alert[i].name = provider[i]->name;

        } else {
            alert[i].matter = i - n;
            alert[i].name = ngx_vidgen_alert_matters[i - n];

            if (ngx_vidgen_alert_recall(&alert[i]) != NGX_OK) {
                return NGX_ERROR;
            }
        }
    }

    monitor->alerter = alerter;

    return NGX_OK;
}


void
ngx_vidgen_alert_matter(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_alert_matter_e matter, ngx_uint_t bad, int64_t value)
{
    ngx_vidgen_alert_t  *alert;

    if (monitor->alerter == NULL) {
        return;
    }

    alert = &monitor->alerter->alerts[monitor->conf->providers->nelts
                                      + matter];

    if (alert->since == 0 || alert->bad != bad) {
        alert->since = ngx_time();
    }

    alert->bad = bad;
    alert->value = value;
}


void
ngx_vidgen_alert_tick(ngx_vidgen_monitor_t *monitor)
{
    ngx_uint_t             i;
    ngx_vidgen_alerter_t  *alerter;

    alerter = monitor->alerter;

    if (alerter == NULL || !ngx_vidgen_chronicle_ready(monitor)) {
        return;
    }

    if (alerter->holding) {

        if (!ngx_vidgen_monitor_due(alerter->hold)) {
            return;
        }

        alerter->holding = 0;
    }

    for (i = 0; i < alerter->n; i++) {
        if (!alerter->alerts[i].busy) {
            ngx_vidgen_alert_look(&alerter->alerts[i]);
        }
    }
}


static void
ngx_vidgen_alert_look(ngx_vidgen_alert_t *alert)
{
    ngx_str_t             *word;
    ngx_vidgen_pg_stat_t   stat;
    ngx_vidgen_monitor_t  *monitor;

    monitor = alert->monitor;

    /* a matter that nobody has looked at yet */

    if (alert->provider == NULL && alert->since == 0) {
        return;
    }

    ngx_vidgen_relay_alert_get(monitor->conf->zone, &alert->name,
                               &alert->memo);

    if (alert->provider) {
        ngx_vidgen_health_get(monitor->conf->zone, &alert->name,
                              &alert->health);
    }

    if (monitor->store) {
        ngx_vidgen_pg_stat(ngx_vidgen_store_pg(monitor->store), &stat);
    }

    /* the others are to know what was said while the database was away */

    if (monitor->store && alert->memo.alone && stat.connected
        && ngx_vidgen_monitor_due(alert->next))
    {
        alert->kind = alert->memo.told ? ngx_vidgen_alert_down
                                       : ngx_vidgen_alert_up;
        alert->began = alert->memo.told ? alert->memo.began : ngx_time();

        if (ngx_vidgen_alert_tell(alert, 1, 1, 0) == NGX_OK) {
            return;
        }
    }

    word = ngx_vidgen_alert_word(alert);

    if (word == NULL) {
        alert->word.len = 0;
        return;
    }

    if (alert->word.data == word->data && alert->word.len
        && !ngx_vidgen_monitor_due(alert->next))
    {
        return;
    }

    alert->word = *word;

    if (word == &ngx_vidgen_alert_down && alert->memo.owed == 0) {
        alert->memo.owed = 1;
        ngx_vidgen_alert_keep(alert);
    }

    if (ngx_vidgen_alert_ask(alert) != NGX_OK) {
        ngx_vidgen_alert_unanswered(alert);
    }
}


/* what there is to say; NULL: nothing */
static ngx_str_t *
ngx_vidgen_alert_word(ngx_vidgen_alert_t *alert)
{
    if (!ngx_vidgen_alert_is_down(alert)) {
        return alert->memo.told || alert->memo.owed ? &ngx_vidgen_alert_up
                                                    : NULL;
    }

    if (!alert->memo.told) {
        return &ngx_vidgen_alert_down;
    }

    return alert->monitor->conf->alert->repeat ? &ngx_vidgen_alert_again
                                               : NULL;
}


static ngx_uint_t
ngx_vidgen_alert_is_down(ngx_vidgen_alert_t *alert)
{
    return alert->provider ? alert->health.status == NGX_VIDGEN_DOWN
                           : alert->bad;
}


time_t
ngx_vidgen_alert_since(ngx_vidgen_alert_t *alert)
{
    time_t  since;

    since = alert->provider ? alert->health.since : alert->since;

    return since ? since : ngx_time();
}


void
ngx_vidgen_alert_obey(ngx_vidgen_alert_t *alert,
    ngx_vidgen_store_alert_row_t *row)
{
    int64_t  ms;

    alert->in_vain = 0;

    if (ngx_vidgen_store_is(&row->outcome, "send")) {
        ngx_vidgen_alert_deliver(alert,
                                 ngx_vidgen_store_is(&row->kind, "up")
                                 ? &ngx_vidgen_alert_up
                                 : &ngx_vidgen_alert_down,
                                 ngx_vidgen_store_integer(&row->began), 0);
        return;
    }

    if (ngx_vidgen_store_is(&row->outcome, "wait")) {
        ms = ngx_vidgen_store_integer(&row->wait);
        ms = ngx_min(ms, NGX_VIDGEN_ALERT_AWAIT);
        alert->next = ngx_current_msec + ngx_max(ms, 100);
        return;
    }

    ngx_vidgen_alert_settled(alert);
}


/* there is nothing more to say about it */
static void
ngx_vidgen_alert_settled(ngx_vidgen_alert_t *alert)
{
    if (alert->word.data == ngx_vidgen_alert_again.data) {
        alert->next = ngx_current_msec + NGX_VIDGEN_ALERT_AWAIT;
        return;
    }

    alert->memo.told = alert->word.data == ngx_vidgen_alert_down.data;
    alert->memo.owed = 0;

    if (alert->memo.told) {
        alert->memo.began = ngx_vidgen_alert_since(alert);
    }

    ngx_vidgen_alert_keep(alert);
}


/*
 * The others ask the same database, so it is asked again while it is there:
 * where each edge spoke for itself, all would say the same.
 */

void
ngx_vidgen_alert_unanswered(ngx_vidgen_alert_t *alert)
{
    ngx_vidgen_pg_stat_t  stat;

    stat.connected = 0;

    if (alert->monitor->store) {
        ngx_vidgen_pg_stat(ngx_vidgen_store_pg(alert->monitor->store), &stat);
    }

    if (stat.connected) {

        if (!alert->in_vain) {
            alert->in_vain = 1;
            alert->asked = ngx_current_msec;
        }

        if (!ngx_vidgen_monitor_due(alert->asked + NGX_VIDGEN_ALERT_IN_VAIN)) {
            alert->next = ngx_current_msec + NGX_VIDGEN_ALERT_ASK;
            return;
        }
    }

    ngx_vidgen_alert_alone(alert);
}


/* each edge for itself: there is no database, or not now */
static void
ngx_vidgen_alert_alone(ngx_vidgen_alert_t *alert)
{
    time_t                     now;
    ngx_msec_t                 floor;
    ngx_vidgen_relay_alert_t  *memo;

    now = ngx_time();
    memo = &alert->memo;

    if (alert->word.data == ngx_vidgen_alert_up.data) {

        if (memo->told) {
            ngx_vidgen_alert_deliver(alert, &ngx_vidgen_alert_up, memo->began,
                                     1);

        } else if (memo->owed > 1) {
            ngx_vidgen_alert_deliver(alert, &ngx_vidgen_alert_down,
                                     memo->began, 1);

        } else {
            ngx_vidgen_alert_settled(alert);
        }

        return;
    }

    floor = alert->monitor->conf->alert->every;

    if (alert->word.data == ngx_vidgen_alert_again.data) {
        floor = alert->monitor->conf->alert->repeat;
    }

    if (memo->owed < 2 && memo->said && memo->said <= now
        && (ngx_msec_t) (now - memo->said) * 1000 < floor)
    {
        alert->next = ngx_current_msec + 1000;
        return;
    }

    ngx_vidgen_alert_deliver(alert, &ngx_vidgen_alert_down,
                             memo->told ? memo->began
                                        : ngx_vidgen_alert_since(alert), 1);
}


static void
ngx_vidgen_alert_deliver(ngx_vidgen_alert_t *alert, ngx_str_t *kind,
    time_t began, ngx_uint_t alone)
{
    alert->kind = *kind;
    alert->began = began;
    alert->alone = alone;
    alert->busy = 1;

    /* from now on it is owed, whatever becomes of the outage */

    if (kind == &ngx_vidgen_alert_down && !alert->memo.told) {
        alert->memo.owed = 2;
        alert->memo.began = began;
        ngx_vidgen_alert_keep(alert);
    }

    alert->pool = ngx_create_pool(4096, alert->monitor->log);

    if (alert->pool == NULL || ngx_vidgen_alert_send(alert) != NGX_OK) {
        ngx_vidgen_alert_delivered(alert, 0, -1);
    }
}


void
ngx_vidgen_alert_delivered(ngx_vidgen_alert_t *alert, ngx_uint_t ok,
    time_t retry_after)
{
    ngx_uint_t             i;
    ngx_msec_t             pause;
    ngx_vidgen_monitor_t  *monitor;

    monitor = alert->monitor;
    alert->busy = 0;

    if (alert->pool) {
        ngx_destroy_pool(alert->pool);
        alert->pool = NULL;
    }

    ngx_vidgen_metric_add(monitor->conf->zone, ok ? NGX_VIDGEN_ALERT_SENT
                                                  : NGX_VIDGEN_ALERT_FAILED,
                          1);

    pause = 0;

    if (ok) {
        alert->failures = 0;
        alert->memo.owed = 0;
        alert->memo.told = alert->kind.data == ngx_vidgen_alert_down.data;
        alert->memo.alone = alert->alone && monitor->store;

        if (alert->memo.told) {
            alert->memo.said = ngx_time();
            alert->memo.began = alert->began;
        }

        ngx_vidgen_alert_keep(alert);

    } else {
        pause = NGX_VIDGEN_ALERT_RETRY;

        for (i = 0; i < alert->failures && pause < NGX_VIDGEN_ALERT_PATIENCE;
             i++)
        {
            pause *= 2;
        }

        alert->failures++;
        pause = ngx_min(pause, NGX_VIDGEN_ALERT_PATIENCE);

        if (retry_after > 0) {
            pause = (ngx_msec_t) retry_after * 1000;
            monitor->alerter->hold = ngx_current_msec + pause;
            monitor->alerter->holding = 1;
        }

        alert->next = ngx_current_msec + pause;
    }

    if (!alert->alone) {
        (void) ngx_vidgen_alert_tell(alert, ok, 0, pause);
    }
}
