#ifndef _NGX_VIDGEN_MONITOR_INT_H_INCLUDED_
#define _NGX_VIDGEN_MONITOR_INT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "core/ngx_vidgen_monitor_conf.h"
#include "core/ngx_vidgen_provider.h"
#include "core/ngx_vidgen_store.h"
#include "io/ngx_vidgen_fetch.h"
#include "shm/ngx_vidgen_health.h"


/* The inside of the monitor, for the files of this folder. */

typedef struct ngx_vidgen_monitor_s     ngx_vidgen_monitor_t;
typedef struct ngx_vidgen_prober_s      ngx_vidgen_prober_t;
typedef struct ngx_vidgen_poller_s      ngx_vidgen_poller_t;
typedef struct ngx_vidgen_sweeper_s     ngx_vidgen_sweeper_t;
typedef struct ngx_vidgen_alerter_s     ngx_vidgen_alerter_t;
typedef struct ngx_vidgen_keyset_s      ngx_vidgen_keyset_t;

struct ngx_vidgen_monitor_s {
    ngx_vidgen_monitor_conf_t   *conf;
    ngx_pool_t                  *pool;
    ngx_log_t                   *log;
    ngx_vidgen_fetch_t          *fetch;
    ngx_vidgen_store_t          *store;      /* NULL: no database */
    ngx_vidgen_pg_conf_t         database;   /* fewer connections than a
                                                worker has */

    ngx_event_t                  tick;       /* cancelable */
    ngx_msec_t                   period;     /* between ticks */
    ngx_msec_t                   started;
    ngx_msec_t                   answered;   /* by the database, last */
    ngx_uint_t                   seeding;    /* questions to the health log */
    ngx_queue_t                  rows;       /* for it, since the last tick */

    ngx_vidgen_prober_t         *probes;     /* by provider */
    ngx_vidgen_keyset_t         *keysets;    /* by provider */
    ngx_vidgen_poller_t         *poller;     /* NULL: nothing to poll */
    ngx_vidgen_sweeper_t        *sweeper;    /* NULL: no database */
    ngx_vidgen_alerter_t        *alerter;    /* NULL: nobody to tell */

    /* for the timer: a debug log reads ev->data as a connection */
    ngx_connection_t             ident;
};

/*
 * A call of the database with a pool of its own; structs that begin with it
 * are made by ngx_vidgen_monitor_call_create().
 */
typedef struct {
    ngx_pool_t                  *pool;
    ngx_vidgen_monitor_t        *monitor;
    ngx_vidgen_pg_call_t         call;       /* its data is this struct */
} ngx_vidgen_monitor_call_t;

/* what is told of, and whether all is well */
typedef enum {
    NGX_VIDGEN_ALERT_DATABASE = 0,
    NGX_VIDGEN_ALERT_CLOCK,
    NGX_VIDGEN_ALERT_ORPHANS,
    NGX_VIDGEN_ALERT_MATTERS
} ngx_vidgen_alert_matter_e;

#define ngx_vidgen_monitor_due(time)                                          \
    ((ngx_msec_int_t) (ngx_current_msec - (time)) >= 0)


/* ngx_vidgen_monitor_call.c */

/* Zeroed, size bytes.  NULL: no memory. */
void *ngx_vidgen_monitor_call_create(ngx_vidgen_monitor_t *monitor,
    size_t size, ngx_vidgen_pg_handler_pt handler);

/* NGX_OK: the handler will run; NGX_BUSY: it will not. */
ngx_int_t ngx_vidgen_monitor_call_start(ngx_vidgen_monitor_call_t *call,
    ngx_vidgen_store_statement_e statement, void *params);

/*
 * Logs what went wrong, unless the database is merely away.  NGX_OK: nothing
 * did.
 */
ngx_int_t ngx_vidgen_monitor_call_check(ngx_vidgen_monitor_call_t *call,
    ngx_vidgen_pg_result_t *result);

/* ms and a tenth more or less */
ngx_msec_t ngx_vidgen_monitor_jitter(ngx_msec_t ms);

/*
 * A request of the definition, filled from source, not started yet.  NULL
 * with *rc NGX_ERROR: no memory; NGX_DECLINED: a value cannot stand in it.
 */
ngx_vidgen_fetch_request_t *ngx_vidgen_monitor_request(
    ngx_vidgen_monitor_t *monitor, ngx_vidgen_provider_t *provider,
    ngx_vidgen_request_t *definition, ngx_vidgen_source_t *source,
    ngx_pool_t *pool, ngx_int_t *rc);


/* ngx_vidgen_chronicle.c: what is known of providers, in log and database */

/* Asks the database for what the zone does not know. */
void ngx_vidgen_chronicle_seed(ngx_vidgen_monitor_t *monitor);

/* The zone knows what there is to know. */
ngx_uint_t ngx_vidgen_chronicle_ready(ngx_vidgen_monitor_t *monitor);

/* Notes changes by live traffic, and has all rows so far written. */
void ngx_vidgen_chronicle_tick(ngx_vidgen_monitor_t *monitor);

/* Has them written now, together, or forgets them. */
void ngx_vidgen_chronicle_flush(ngx_vidgen_monitor_t *monitor);
void ngx_vidgen_chronicle_drop(ngx_vidgen_monitor_t *monitor);

/* A row of the health log, for the next tick, and a line of the error log. */
void ngx_vidgen_chronicle_write(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_provider_t *provider, ngx_vidgen_health_t *health,
    int64_t when_ms);
void ngx_vidgen_chronicle_say(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_provider_t *provider, ngx_vidgen_health_t *health);


/* the others: _create returns NGX_ERROR for no memory */

ngx_int_t ngx_vidgen_probe_create(ngx_vidgen_monitor_t *monitor);
void ngx_vidgen_probe_tick(ngx_vidgen_monitor_t *monitor);

/* ms until the next probe or tick */
ngx_msec_t ngx_vidgen_probe_wait(ngx_vidgen_monitor_t *monitor);

ngx_int_t ngx_vidgen_poll_create(ngx_vidgen_monitor_t *monitor);
void ngx_vidgen_poll_tick(ngx_vidgen_monitor_t *monitor);

/* The providers that can be polled, as an array.  NGX_ERROR: no memory. */
ngx_int_t ngx_vidgen_poll_providers(ngx_vidgen_monitor_t *monitor,
    ngx_pool_t *pool, ngx_str_t *names);

ngx_int_t ngx_vidgen_sweep_create(ngx_vidgen_monitor_t *monitor);
void ngx_vidgen_sweep_tick(ngx_vidgen_monitor_t *monitor);

ngx_int_t ngx_vidgen_keyset_create(ngx_vidgen_monitor_t *monitor);
void ngx_vidgen_keyset_tick(ngx_vidgen_monitor_t *monitor);

ngx_int_t ngx_vidgen_alert_create(ngx_vidgen_monitor_t *monitor);
void ngx_vidgen_alert_tick(ngx_vidgen_monitor_t *monitor);

/* How a matter other than a provider stands; value is for the message. */
void ngx_vidgen_alert_matter(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_alert_matter_e matter, ngx_uint_t bad, int64_t value);


#endif /* _NGX_VIDGEN_MONITOR_INT_H_INCLUDED_ */
