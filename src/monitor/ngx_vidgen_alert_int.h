#ifndef _NGX_VIDGEN_ALERT_INT_H_INCLUDED_
#define _NGX_VIDGEN_ALERT_INT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "monitor/ngx_vidgen_monitor_int.h"
#include "shm/ngx_vidgen_relay.h"


/*
 * Alerts: what is to be said (ngx_vidgen_alert.c), which of several edges says
 * it (..._call.c), how (..._message.c), and what was said (..._memo.c).
 */

#define NGX_VIDGEN_ALERT_AWAIT  5000     /* ms, for another edge */

typedef struct {
    ngx_vidgen_monitor_t        *monitor;
    ngx_str_t                    name;       /* in zone and database */
    ngx_vidgen_provider_t       *provider;   /* NULL: another matter */
    ngx_vidgen_alert_matter_e    matter;     /* which */
    ngx_uint_t                   bad;        /* of a matter: how it stands */
    time_t                       since;
    int64_t                      value;

    ngx_vidgen_health_t          health;     /* of a provider */
    ngx_vidgen_relay_alert_t     memo;
    ngx_str_t                    word;       /* down, up, again: the last one */
    ngx_msec_t                   next;       /* for the same word */
    ngx_uint_t                   failures;   /* deliveries, in a row */
    u_char                      *file;       /* of a matter, for its memo */
    ngx_msec_t                   asked;      /* the database, in vain, since */

    /* of a message under way */
    ngx_pool_t                  *pool;
    ngx_str_t                    kind;       /* down, up */
    time_t                       began;
    unsigned                     alone:1;    /* without the database's leave */
    unsigned                     busy:1;     /* a call or a message is */
    unsigned                     in_vain:1;  /* asked */
    unsigned                     filed:1;    /* the file is there */
    unsigned                     filed_alone:1;  /* as in the memo */
} ngx_vidgen_alert_t;

struct ngx_vidgen_alerter_s {
    ngx_vidgen_alert_t          *alerts;
    ngx_uint_t                   n;
    ngx_msec_t                   hold;       /* no message before */
    ngx_str_t                    holder;     /* this process, for leases */
    unsigned                     holding:1;
};


extern ngx_str_t  ngx_vidgen_alert_down;
extern ngx_str_t  ngx_vidgen_alert_up;

/* Since when it is as it is. */
time_t ngx_vidgen_alert_since(ngx_vidgen_alert_t *alert);

/*
 * Keeps the memo in the zone, so that it survives this process, and that of a
 * matter in a file, from which recall() reads it where the zone is new.
 * NGX_ERROR: no memory.
 */
void ngx_vidgen_alert_keep(ngx_vidgen_alert_t *alert);
ngx_int_t ngx_vidgen_alert_recall(ngx_vidgen_alert_t *alert);

/*
 * Asks the database whether alert->word may be said here; ends with
 * ngx_vidgen_alert_obey() or, if it does not answer, ..._unanswered().
 * NGX_BUSY or NGX_ERROR: it does not.
 */
ngx_int_t ngx_vidgen_alert_ask(ngx_vidgen_alert_t *alert);
void ngx_vidgen_alert_obey(ngx_vidgen_alert_t *alert,
    ngx_vidgen_store_alert_row_t *row);
void ngx_vidgen_alert_unanswered(ngx_vidgen_alert_t *alert);

/*
 * Tells the database what became of alert->kind: sent, or not before pause
 * ms; alone: without having asked.
 */
ngx_int_t ngx_vidgen_alert_tell(ngx_vidgen_alert_t *alert, ngx_uint_t sent,
    ngx_uint_t alone, ngx_msec_t pause);

/*
 * Sends alert->kind with alert->pool; ends with ngx_vidgen_alert_delivered().
 * NGX_BUSY or NGX_ERROR: it does not.
 */
ngx_int_t ngx_vidgen_alert_send(ngx_vidgen_alert_t *alert);

/* retry_after: seconds; -1: not said */
void ngx_vidgen_alert_delivered(ngx_vidgen_alert_t *alert, ngx_uint_t ok,
    time_t retry_after);


#endif /* _NGX_VIDGEN_ALERT_INT_H_INCLUDED_ */
