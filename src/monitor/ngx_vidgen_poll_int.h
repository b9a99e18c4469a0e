#ifndef _NGX_VIDGEN_POLL_INT_H_INCLUDED_
#define _NGX_VIDGEN_POLL_INT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "monitor/ngx_vidgen_monitor_int.h"


/*
 * Polls: which jobs (ngx_vidgen_poll.c), one of them (..._poll_job.c), and
 * what came of it (..._poll_result.c).
 */

typedef struct {
    ngx_vidgen_poller_t         *poller;
    ngx_vidgen_provider_t       *provider;
    ngx_queue_t                  waiting;    /* leased, not asked for yet */
    ngx_uint_t                   running;    /* asked for */
    ngx_msec_t                   paused;     /* it asked for that, until then */
    unsigned                     pausing:1;
    unsigned                     told:1;     /* that jobs cannot be polled */
} ngx_vidgen_pollee_t;

struct ngx_vidgen_poller_s {
    ngx_vidgen_monitor_t        *monitor;
    ngx_vidgen_pollee_t         *pollees;
    ngx_uint_t                   n;
    ngx_uint_t                   leased;     /* waiting and running */
    ngx_msec_t                   next;       /* lease */
    unsigned                     leasing:1;
};

/* seconds at most that a provider's Retry-After is followed */
#define NGX_VIDGEN_POLL_PAUSE     600

/* an attempt that is leased; with a pool of its own */
typedef struct {
    ngx_vidgen_monitor_call_t    call;       /* of what came of it */
    ngx_queue_t                  link;       /* of waiting ones */
    ngx_vidgen_pollee_t         *pollee;
    ngx_str_t                    attempt;
    ngx_str_t                    job;
    ngx_uint_t                   polls;      /* this one included */
    ngx_msec_t                   last;       /* later its lease is too short */
    ngx_vidgen_source_t          source;
    ngx_array_t                  kept;       /* of ngx_vidgen_pair_t */
    unsigned                     then:1;     /* it is at its second step */
    unsigned                     answered:1; /* the provider has said how the
                                                job stands */
    union {
        ngx_vidgen_store_apply_t   apply;
        ngx_vidgen_store_polled_t  polled;
    } params;
} ngx_vidgen_poll_job_t;


/* A job of a row.  NULL: no memory. */
ngx_vidgen_poll_job_t *ngx_vidgen_poll_job_create(ngx_vidgen_pollee_t *pollee,
    ngx_vidgen_store_due_row_t *row);

/*
 * Asks the provider.  NGX_OK: it ends by itself, with
 * ngx_vidgen_poll_ended(); NGX_BUSY: not now.
 */
ngx_int_t ngx_vidgen_poll_job_start(ngx_vidgen_poll_job_t *job);

/* Ends the job: the database is told what the provider said. */
void ngx_vidgen_poll_apply(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_result_t *result);

/* Ends the job: it is to be polled again, not before after seconds. */
void ngx_vidgen_poll_again(ngx_vidgen_poll_job_t *job, time_t after);

/* The provider has been asked; what follows is the database's. */
void ngx_vidgen_poll_ended(ngx_vidgen_pollee_t *pollee);

/* It wants no polls for so many seconds. */
void ngx_vidgen_poll_pause(ngx_vidgen_pollee_t *pollee, time_t seconds);


#endif /* _NGX_VIDGEN_POLL_INT_H_INCLUDED_ */
