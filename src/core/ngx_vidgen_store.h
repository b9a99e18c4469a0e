#ifndef _NGX_VIDGEN_STORE_H_INCLUDED_
#define _NGX_VIDGEN_STORE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_store_value.h"
#include "io/ngx_vidgen_pg.h"
#include "shm/ngx_vidgen_zone.h"


/*
 * The operations of the database (sql/), as the table of statements in the .c
 * lists them.  Parameters and rows are structs of ngx_str_t alone, in the
 * order of the SQL function's; data NULL is SQL's NULL.
 */

#define NGX_VIDGEN_STORE_SCHEMA  1       /* what hello() must at least say */
#define NGX_VIDGEN_STORE_BATCH   64      /* most calls in one transaction */

typedef enum {
    NGX_VIDGEN_STORE_BEGIN = 0,
    NGX_VIDGEN_STORE_NEXT_ATTEMPT,
    NGX_VIDGEN_STORE_SUBMITTED,
    NGX_VIDGEN_STORE_ABANDON,
    NGX_VIDGEN_STORE_APPLY,
    NGX_VIDGEN_STORE_JOB,
    NGX_VIDGEN_STORE_DUE,
    NGX_VIDGEN_STORE_POLLED,
    NGX_VIDGEN_STORE_SWEEP,
    NGX_VIDGEN_STORE_HEALTH_LOG,
    NGX_VIDGEN_STORE_HEALTH_SEED,
    NGX_VIDGEN_STORE_ALERT,
    NGX_VIDGEN_STORE_ALERTED,
    NGX_VIDGEN_STORE_STATEMENTS
} ngx_vidgen_store_statement_e;

typedef struct ngx_vidgen_store_s  ngx_vidgen_store_t;


/* parameters */

typedef struct {
    ngx_str_t  job;
    ngx_str_t  attempt;
    ngx_str_t  user;
    ngx_str_t  model;
    ngx_str_t  prompt;
    ngx_str_t  key;              /* hex SHA-256 of user and Idempotency-Key */
    ngx_str_t  fingerprint;      /* hex SHA-256 of the parsed fields */
    ngx_str_t  ttl;              /* ms */
    ngx_str_t  candidates;       /* JSON: [{"name":"x","degraded":true}] */
    ngx_str_t  preferred;
    ngx_str_t  lease;            /* ms */
} ngx_vidgen_store_begin_t;

typedef struct {
    ngx_str_t  job;
    ngx_str_t  attempt;          /* to be closed */
    ngx_str_t  state;            /* unsent, refused, unknown */
    ngx_str_t  http_status;
    ngx_str_t  reason;
    ngx_str_t  error;
    ngx_str_t  next;             /* the new attempt's id */
    ngx_str_t  provider;         /* and provider */
    ngx_str_t  lease;            /* ms */
    ngx_str_t  max_jobs;         /* of that provider */
} ngx_vidgen_store_next_attempt_t;

typedef struct {
    ngx_str_t  job;
    ngx_str_t  attempt;
    ngx_str_t  provider_job_id;
    ngx_str_t  progress;         /* queued, processing */
    ngx_str_t  kept;             /* JSON object of texts */
    ngx_str_t  http_status;
    ngx_str_t  estimated_time;   /* seconds */
    ngx_str_t  due;              /* ms until the first poll */
} ngx_vidgen_store_submitted_t;

typedef struct {
    ngx_str_t  job;
    ngx_str_t  attempt;
    ngx_str_t  state;            /* unsent, refused, unknown */
    ngx_str_t  http_status;
    ngx_str_t  reason;
    ngx_str_t  error;
    ngx_str_t  answer_status;    /* what the client is told */
    ngx_str_t  answer_error;
    ngx_str_t  answer_code;
} ngx_vidgen_store_abandon_t;

typedef struct {
    ngx_str_t  provider;
    ngx_str_t  attempt;
    ngx_str_t  provider_job_id;
    ngx_str_t  status;
    ngx_str_t  verdict;          /* t, f */
    ngx_str_t  video_url;
    ngx_str_t  error;
    ngx_str_t  digest;           /* hex, of the event */
    ngx_str_t  body;
    ngx_str_t  first_provider;   /* t, f */
    ngx_str_t  ttl;              /* ms */
    ngx_str_t  source;           /* webhook, poll */
} ngx_vidgen_store_apply_t;

typedef struct {
    ngx_str_t  job;
    ngx_str_t  user;
} ngx_vidgen_store_job_t;

typedef struct {
    ngx_str_t  providers;        /* an array: {"a","b"} */
    ngx_str_t  overdue;          /* interval */
    ngx_str_t  limit;
    ngx_str_t  lease;            /* interval */
} ngx_vidgen_store_due_t;

typedef struct {
    ngx_str_t  attempt;
    ngx_str_t  due;              /* ms from now */
    ngx_str_t  polls;            /* which one it was, as due said */
    ngx_str_t  answered;         /* t, f: it said how the job stands */
} ngx_vidgen_store_polled_t;

typedef struct {
    ngx_str_t  unknown;          /* interval */
    ngx_str_t  expire;           /* interval */
    ngx_str_t  limit;
    ngx_str_t  polled;           /* providers, an array: {"a","b"} */
} ngx_vidgen_store_sweep_t;

typedef struct {
    ngx_str_t  provider;
    ngx_str_t  status;           /* healthy, degraded, down */
    ngx_str_t  response_time;    /* ms */
    ngx_str_t  failures;
    ngx_str_t  checked;          /* ms since the epoch */
} ngx_vidgen_store_health_log_t;

typedef struct {
    ngx_str_t  provider;
} ngx_vidgen_store_health_seed_t;

typedef struct {
    ngx_str_t  subject;
    ngx_str_t  word;             /* down, up, again */
    ngx_str_t  since;            /* seconds since the epoch */
    ngx_str_t  every;            /* ms */
    ngx_str_t  repeat;           /* ms */
    ngx_str_t  lease;            /* ms */
    ngx_str_t  holder;           /* who asks */
} ngx_vidgen_store_alert_t;

typedef struct {
    ngx_str_t  subject;
    ngx_str_t  kind;             /* down, up */
    ngx_str_t  since;            /* seconds since the epoch */
    ngx_str_t  sent;             /* t, f */
    ngx_str_t  alone;            /* t, f */
    ngx_str_t  pause;            /* ms */
    ngx_str_t  holder;
} ngx_vidgen_store_alerted_t;


/* rows, without the ordinal */

typedef struct {
    ngx_str_t  outcome;
    ngx_str_t  job;
    ngx_str_t  attempt;
    ngx_str_t  providers;        /* in their final order, by commas */
    ngx_str_t  http_status;
    ngx_str_t  provider;
    ngx_str_t  status;
    ngx_str_t  estimated_time;
    ngx_str_t  error;
    ngx_str_t  code;
} ngx_vidgen_store_begin_row_t;

typedef struct {
    ngx_str_t  outcome;          /* go, stop, full */
    ngx_str_t  status;
    ngx_str_t  provider;
} ngx_vidgen_store_next_attempt_row_t;

typedef struct {
    ngx_str_t  outcome;          /* recorded, duplicate_id, absent */
    ngx_str_t  job;
    ngx_str_t  http_status;
    ngx_str_t  provider;
    ngx_str_t  status;
    ngx_str_t  estimated_time;
    ngx_str_t  error;
    ngx_str_t  code;
    ngx_str_t  refund_error;
} ngx_vidgen_store_submitted_row_t;

typedef struct {
    ngx_str_t  outcome;          /* closed, open, absent */
    ngx_str_t  status;
    ngx_str_t  provider;
    ngx_str_t  refunded;
    ngx_str_t  http_status;      /* 200, 202; NULL where it has failed */
    ngx_str_t  refund_error;
} ngx_vidgen_store_abandon_row_t;

typedef struct {
    ngx_str_t  outcome;
    ngx_str_t  job;
    ngx_str_t  attempt;
    ngx_str_t  status;
    ngx_str_t  replay;
    ngx_str_t  differs;
    ngx_str_t  changed;
    ngx_str_t  user;
    ngx_str_t  refund_error;
    ngx_str_t  final;
} ngx_vidgen_store_apply_row_t;

typedef struct {
    ngx_str_t  job;
    ngx_str_t  provider;
    ngx_str_t  status;
    ngx_str_t  video_url;
    ngx_str_t  error;
    ngx_str_t  estimated_time;
    ngx_str_t  provider_attempts;
    ngx_str_t  credits_used;
    ngx_str_t  created_at;
    ngx_str_t  completed_at;
} ngx_vidgen_store_job_row_t;

/* of due there are several; see ngx_vidgen_store_rows() */
typedef struct {
    ngx_str_t  attempt;
    ngx_str_t  job;
    ngx_str_t  provider;
    ngx_str_t  provider_job_id;
    ngx_str_t  polls;
    ngx_str_t  user;
    ngx_str_t  model;
    ngx_str_t  prompt;
    ngx_str_t  kept;             /* JSON object of texts */
} ngx_vidgen_store_due_row_t;

typedef struct {
    ngx_str_t  unknown;          /* counts */
    ngx_str_t  last_polls;
    ngx_str_t  lost;
    ngx_str_t  refunds;
    ngx_str_t  refund_errors;
    ngx_str_t  keys;
    ngx_str_t  parked;
    ngx_str_t  health;
    ngx_str_t  orphans;
    ngx_str_t  refunds_due;
    ngx_str_t  more;
    ngx_str_t  changed;          /* jobs: {id,id} */
    ngx_str_t  old_orphans;
    ngx_str_t  clock;            /* ms since the epoch */
} ngx_vidgen_store_sweep_row_t;

typedef struct {
    ngx_str_t  status;
    ngx_str_t  response_time;    /* ms */
    ngx_str_t  failures;
    ngx_str_t  checked;          /* seconds since the epoch */
    ngx_str_t  since;            /* seconds since the epoch */
} ngx_vidgen_store_health_seed_row_t;

typedef struct {
    ngx_str_t  outcome;          /* send, wait, done */
    ngx_str_t  kind;             /* down, up */
    ngx_str_t  began;            /* seconds since the epoch */
    ngx_str_t  wait;             /* ms */
} ngx_vidgen_store_alert_row_t;


/*
 * While the configuration loads: completes the connection settings with what
 * the store asks of each new connection.  notify: changed jobs are told on
 * the channel vidgen_job.
 */
ngx_int_t ngx_vidgen_store_configure(ngx_conf_t *cf,
    ngx_vidgen_pg_conf_t *conf, ngx_vidgen_zone_t *zone, ngx_uint_t notify);

/* In a process with an event loop.  NULL: no memory. */
ngx_vidgen_store_t *ngx_vidgen_store_create(ngx_cycle_t *cycle,
    ngx_vidgen_pg_conf_t *conf);

void ngx_vidgen_store_destroy(ngx_vidgen_store_t *store);

ngx_vidgen_pg_t *ngx_vidgen_store_pg(ngx_vidgen_store_t *store);

/*
 * Starts statement with params (its struct, valid until the handler ran) as
 * call, whose handler, data and reserved the caller has set.  NGX_OK: the
 * handler will run once; NGX_BUSY: it will not, answer 503.
 */
ngx_int_t ngx_vidgen_store_start(ngx_vidgen_store_t *store,
    ngx_vidgen_store_statement_e statement, ngx_vidgen_pg_call_t *call,
    void *params);

/*
 * Fills row (the statement's struct) from the call's row; NGX_DECLINED if
 * there is none.  The texts are valid during the handler.
 */
ngx_int_t ngx_vidgen_store_row(ngx_vidgen_pg_result_t *result, void *row,
    size_t size);

/* The same for the n-th row of a statement that is not a batch, from 0. */
ngx_int_t ngx_vidgen_store_rows(ngx_vidgen_pg_result_t *result, ngx_uint_t n,
    void *row, size_t size);

/*
 * Where it is configured, tells the listeners of the channel vidgen_job that
 * job has changed, after the change is committed: its id is the payload.
 * Those of one tick go together.  At most once: a lost one is not repeated.
 */
void ngx_vidgen_store_notify(ngx_vidgen_store_t *store, ngx_str_t *job);

/* Logs and counts error, a row's refund_error of job, unless it is empty. */
void ngx_vidgen_store_refund_error(ngx_vidgen_zone_t *zone, ngx_log_t *log,
    ngx_str_t *job, ngx_str_t *error);


#endif /* _NGX_VIDGEN_STORE_H_INCLUDED_ */
