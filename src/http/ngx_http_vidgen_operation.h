#ifndef _NGX_HTTP_VIDGEN_OPERATION_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_OPERATION_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_id.h"
#include "core/ngx_vidgen_route.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_input.h"
#include "http/ngx_http_vidgen_task.h"
#include "shm/ngx_vidgen_seen.h"


/*
 * A generation under way: begin, attempts at providers one after the other,
 * then submitted or abandon.  It ends on its own when the client leaves, and
 * a closing call goes on until the database has answered.
 */

typedef struct {
    ngx_vidgen_provider_t     *provider;
    ngx_uint_t                 asked;        /* times */
    ngx_uint_t                 full;         /* times that max_jobs were open */
    time_t                     retry_at;     /* it asked for a pause; or 0 */
    unsigned                   closed:1;     /* not to be asked again */
} ngx_http_vidgen_candidate_t;

/* one request to one provider; private to attempt.c but for the response */
typedef struct {
    ngx_http_request_t        *subrequest;   /* NULL: none under way */
    ngx_event_t                timer;        /* non-cancelable */
    ngx_event_t                begun;        /* posted: the upstream is there */
    ngx_vidgen_response_t      response;
    time_t                     retry_after;  /* seconds; -1: not said */
    ngx_msec_t                 started;
    unsigned                   timedout:1;
    unsigned                   tls:1;        /* ended within the handshake */
    unsigned                   unread:1;     /* there is more of the answer */
    unsigned                   cut:1;        /* nobody waited for the answer */
    unsigned                   done:1;       /* response is there */
} ngx_http_vidgen_attempt_t;

typedef struct ngx_http_vidgen_operation_s  ngx_http_vidgen_operation_t;

/* the database has answered; the result is valid during the call */
typedef void (*ngx_http_vidgen_closed_pt)(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result);

struct ngx_http_vidgen_operation_s {
    ngx_http_vidgen_task_t           task;
    ngx_http_vidgen_main_conf_t     *mcf;
    ngx_http_vidgen_loc_conf_t      *lcf;

    ngx_http_vidgen_input_t          input;
    ngx_vidgen_seen_claim_t          seen;        /* of the key in the zone */
    ngx_vidgen_seen_value_t          replay;      /* what was found there */
    ngx_vidgen_source_t              source;
    ngx_http_variable_value_t       *variables;   /* that attempts start with */
    ngx_str_t                        job;
    ngx_str_t                        attempt_id;
    u_char                           job_text[NGX_VIDGEN_UUID_LEN];
    u_char                           attempt_text[NGX_VIDGEN_UUID_LEN];
    u_char                           next_text[NGX_VIDGEN_UUID_LEN];

    ngx_array_t                      candidates;  /* in the final order */
    ngx_http_vidgen_candidate_t     *candidate;   /* of the open attempt */
    ngx_http_vidgen_candidate_t     *next;        /* that begins its attempt */
    ngx_uint_t                       round;       /* from 1 */
    ngx_msec_t                       deadline;    /* of the whole */
    ngx_http_vidgen_attempt_t        attempt;
    ngx_vidgen_verdict_t             verdict;

    ngx_event_t                      timer;       /* a pause; non-cancelable */
    ngx_vidgen_store_statement_e     closing;     /* what is being told to the
                                                     database; or
                                                     ..._STATEMENTS */
    ngx_http_vidgen_closed_pt        closed;      /* what follows */
    ngx_http_vidgen_error_e          failure;     /* what abandon answers */
    ngx_msec_t                       pause;       /* ms, before the next call */
    ngx_msec_t                       give_up;     /* when exiting; or 0 */
    ngx_queue_t                      link;        /* of those being closed */

    union {
        ngx_vidgen_store_begin_t         begin;
        ngx_vidgen_store_next_attempt_t  next_attempt;
        ngx_vidgen_store_submitted_t     submitted;
        ngx_vidgen_store_abandon_t       abandon;
    } params;

    unsigned                         reserved:1;  /* a place for the closer */
    unsigned                         throttled:1; /* every attempt so far
                                                     ended in 429 */
    unsigned                         unfit:1;     /* none so far could be sent
                                                     with these values */
    unsigned                         begun:1;     /* begin is known */
    unsigned                         resent:1;    /* it was sent before,
                                                     with an unknown outcome */
};


/*
 * Makes the operation of a request: ids and the place for its closing call.
 * NGX_OK; NGX_BUSY: the database's queue is full; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_vidgen_operation_create(ngx_http_request_t *r,
    ngx_http_vidgen_operation_t **operation);

/*
 * Sets the values of $vidgen_* for an attempt at provider, whose id is
 * op->attempt_id.  NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_vidgen_operation_source(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_provider_t *provider);

/*
 * Starts with begin, whose candidates are JSON.  NGX_OK: the operation ends
 * the request and itself; NGX_BUSY: nothing has happened.
 */
ngx_int_t ngx_http_vidgen_operation_start(ngx_http_vidgen_operation_t *op,
    ngx_str_t *candidates);

/* Frees it before it was started. */
void ngx_http_vidgen_operation_destroy(ngx_http_vidgen_operation_t *op);

/* Asks op->candidate, whose attempt is committed; or closes it. */
void ngx_http_vidgen_operation_attempt(ngx_http_vidgen_operation_t *op);

/* An attempt has its response; called by attempt.c. */
void ngx_http_vidgen_operation_attempted(ngx_http_vidgen_operation_t *op);

/*
 * The ms that are left to an attempt begun after pause: its own bound or, where
 * that is less, the rest of the whole.
 */
ngx_msec_t ngx_http_vidgen_operation_time(ngx_http_vidgen_operation_t *op,
    ngx_msec_t pause);

/* The lease of an attempt in ms, as a parameter.  NGX_ERROR: no memory. */
ngx_int_t ngx_http_vidgen_operation_lease(ngx_http_vidgen_operation_t *op,
    ngx_str_t *lease);


#endif /* _NGX_HTTP_VIDGEN_OPERATION_H_INCLUDED_ */
