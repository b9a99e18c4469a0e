#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "monitor/ngx_vidgen_monitor.h"
#include "monitor/ngx_vidgen_monitor_int.h"
#include "shm/ngx_vidgen_relay.h"


#define NGX_VIDGEN_MONITOR_TICK         1000     /* ms, at most */
#define NGX_VIDGEN_MONITOR_CONNECTIONS  2        /* to the database, and one
                                                    for sweeps */
#define NGX_VIDGEN_MONITOR_LATER        3600000  /* ms, for nginx's manager */


static ngx_msec_t ngx_vidgen_monitor_manager(void *data);
static void ngx_vidgen_monitor_title(ngx_vidgen_monitor_conf_t *conf);
static ngx_vidgen_monitor_t *ngx_vidgen_monitor_create(ngx_cycle_t *cycle,
    ngx_vidgen_monitor_conf_t *conf);
static ngx_int_t ngx_vidgen_monitor_init(ngx_vidgen_monitor_t *monitor,
    ngx_cycle_t *cycle);
static ngx_int_t ngx_vidgen_monitor_database(ngx_vidgen_monitor_t *monitor,
    ngx_cycle_t *cycle);
static void ngx_vidgen_monitor_free(ngx_vidgen_monitor_t *monitor);
static void ngx_vidgen_monitor_tick(ngx_event_t *ev);


static ngx_vidgen_monitor_t  *ngx_vidgen_monitor;
static ngx_uint_t             ngx_vidgen_monitor_begun;


ngx_int_t
ngx_vidgen_monitor_add(ngx_conf_t *cf, ngx_vidgen_monitor_conf_t *conf)
{
    conf->path->data = conf;
    conf->path->manager = ngx_vidgen_monitor_manager;

    return ngx_add_path(cf, &conf->path);
}


/* nginx calls it at once, and again after what it returns */
static ngx_msec_t
ngx_vidgen_monitor_manager(void *data)
{
    if (!ngx_vidgen_monitor_begun) {
        ngx_vidgen_monitor_title(data);
        ngx_vidgen_monitor_start((ngx_cycle_t *) ngx_cycle, data);
    }

    return NGX_VIDGEN_MONITOR_LATER;
}


static void
ngx_vidgen_monitor_title(ngx_vidgen_monitor_conf_t *conf)
{
    char         *title;
    ngx_uint_t    i;
    ngx_path_t  **path;

    title = "vidgen monitor process";
    path = ngx_cycle->paths.elts;

    for (i = 0; i < ngx_cycle->paths.nelts; i++) {
        if (path[i]->manager && path[i]->data != conf) {
            title = "cache manager and vidgen monitor process";
        }
    }

    ngx_setproctitle(title);
}


void
ngx_vidgen_monitor_start(ngx_cycle_t *cycle, ngx_vidgen_monitor_conf_t *conf)
{
    ngx_vidgen_monitor_begun = 1;

    ngx_vidgen_monitor = ngx_vidgen_monitor_create(cycle, conf);

    if (ngx_vidgen_monitor == NULL) {
        ngx_log_error(NGX_LOG_CRIT, cycle->log, 0,
                      "vidgen: the monitor could not start");
    }
}


void
ngx_vidgen_monitor_stop(void)
{
    if (ngx_vidgen_monitor) {
        ngx_vidgen_monitor_free(ngx_vidgen_monitor);
        ngx_vidgen_monitor = NULL;
    }
}


static ngx_vidgen_monitor_t *
ngx_vidgen_monitor_create(ngx_cycle_t *cycle, ngx_vidgen_monitor_conf_t *conf)
{
    ngx_pool_t            *pool;
    ngx_vidgen_monitor_t  *monitor;

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    monitor = ngx_pcalloc(pool, sizeof(ngx_vidgen_monitor_t));
    if (monitor == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    monitor->conf = conf;
    monitor->pool = pool;
    monitor->log = cycle->log;
    monitor->started = ngx_current_msec;
    monitor->answered = ngx_current_msec;
    monitor->ident.fd = (ngx_socket_t) -1;

    ngx_queue_init(&monitor->rows);

    if (ngx_vidgen_monitor_init(monitor, cycle) != NGX_OK) {
        ngx_vidgen_monitor_free(monitor);
        return NULL;
    }

    return monitor;
}


static ngx_int_t
ngx_vidgen_monitor_init(ngx_vidgen_monitor_t *monitor, ngx_cycle_t *cycle)
{
    ngx_msec_t                  period;
    ngx_vidgen_monitor_conf_t  *conf;

    conf = monitor->conf;

    monitor->fetch = ngx_vidgen_fetch_create(cycle, &conf->ca_file);

    if (monitor->fetch == NULL
        || ngx_vidgen_monitor_database(monitor, cycle) != NGX_OK
        || ngx_vidgen_probe_create(monitor) != NGX_OK
        || ngx_vidgen_poll_create(monitor) != NGX_OK
        || ngx_vidgen_sweep_create(monitor) != NGX_OK
        || ngx_vidgen_keyset_create(monitor) != NGX_OK
        || ngx_vidgen_alert_create(monitor) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* often enough for what is configured to happen often */

    period = ngx_min(conf->rule.interval, conf->poll) / 4;
    period = ngx_max(period, 25);

    monitor->period = ngx_min(period, NGX_VIDGEN_MONITOR_TICK);

    monitor->tick.handler = ngx_vidgen_monitor_tick;
    monitor->tick.data = &monitor->ident;
    monitor->tick.log = monitor->log;
    monitor->tick.cancelable = 1;

    ngx_vidgen_relay_take(conf->zone);
    ngx_vidgen_relay_beat(conf->zone);
    ngx_vidgen_chronicle_seed(monitor);

    ngx_add_timer(&monitor->tick, 1);

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_monitor_database(ngx_vidgen_monitor_t *monitor, ngx_cycle_t *cycle)
{
    if (monitor->conf->database == NULL) {
        return NGX_OK;
    }

    monitor->database = *monitor->conf->database;
    monitor->database.connections = ngx_min(monitor->database.connections,
                                            NGX_VIDGEN_MONITOR_CONNECTIONS)
                                    + 1;

    monitor->store = ngx_vidgen_store_create(cycle, &monitor->database);

    return monitor->store ? NGX_OK : NGX_ERROR;
}


static void
ngx_vidgen_monitor_free(ngx_vidgen_monitor_t *monitor)
{
    if (monitor->tick.timer_set) {
        ngx_del_timer(&monitor->tick);
    }

    ngx_vidgen_chronicle_drop(monitor);

    if (monitor->fetch) {
        ngx_vidgen_fetch_destroy(monitor->fetch);
    }

    if (monitor->store) {
        ngx_vidgen_store_destroy(monitor->store);
    }

    ngx_destroy_pool(monitor->pool);
}


static void
ngx_vidgen_monitor_tick(ngx_event_t *ev)
{
    ngx_vidgen_monitor_t  *monitor;

    monitor = ngx_queue_data(ev, ngx_vidgen_monitor_t, tick);

    /*
     * A master that is told to go on, while the binary that was to replace it
     * is still there, starts a second one.
     */

    if (!ngx_vidgen_relay_mine(monitor->conf->zone)) {
        ngx_log_error(NGX_LOG_NOTICE, monitor->log, 0,
                      "vidgen: another process is the monitor now");
        ngx_vidgen_monitor_stop();
        return;
    }

    ngx_vidgen_relay_beat(monitor->conf->zone);

    ngx_vidgen_chronicle_tick(monitor);
    ngx_vidgen_probe_tick(monitor);
    ngx_vidgen_keyset_tick(monitor);
    ngx_vidgen_poll_tick(monitor);
    ngx_vidgen_sweep_tick(monitor);
    ngx_vidgen_alert_tick(monitor);

    ngx_add_timer(&monitor->tick, ngx_vidgen_probe_wait(monitor));
}
