#ifndef _NGX_VIDGEN_PROVIDER_H_INCLUDED_
#define _NGX_VIDGEN_PROVIDER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_json.h"
#include "core/ngx_vidgen_scheme.h"
#include "core/ngx_vidgen_template.h"
#include "core/ngx_vidgen_url.h"


/* A provider is data: what a vidgen_provider block was read into. */

#define NGX_VIDGEN_PROVIDER_NAME_MAX    63
#define NGX_VIDGEN_PROVIDER_JOB_ID_MAX  255

/* of a job and, where it applies, of a provider's answer */
typedef enum {
    NGX_VIDGEN_STATUS_NONE = 0,          /* no or an unknown word */
    NGX_VIDGEN_STATUS_QUEUED,
    NGX_VIDGEN_STATUS_PROCESSING,
    NGX_VIDGEN_STATUS_COMPLETED,
    NGX_VIDGEN_STATUS_FAILED
} ngx_vidgen_status_e;

extern ngx_str_t  ngx_vidgen_status_names[];

/* The status of that name; NONE: there is none. */
ngx_vidgen_status_e ngx_vidgen_status_find(ngx_str_t *name);

typedef struct {                         /* header NAME value; query NAME v */
    ngx_str_t                  name;
    ngx_vidgen_template_t      value;
} ngx_vidgen_field_t;

typedef struct {                         /* body /pointer value [type] */
    ngx_vidgen_pointer_t       pointer;
    ngx_vidgen_template_t      value;
    ngx_vidgen_json_type_e     type;
    unsigned                   when_set:1;
} ngx_vidgen_member_t;

typedef struct {                         /* word=status of a status map */
    ngx_str_t                  word;     /* "*": any other */
    ngx_vidgen_status_e        status;
} ngx_vidgen_word_t;

typedef struct {                         /* accept, refuse, retry */
    ngx_vidgen_pointer_t       pointer;
    ngx_array_t                values;   /* of ngx_str_t; none: it is there */
} ngx_vidgen_condition_t;

typedef struct {                         /* keep NAME /pointer */
    ngx_str_t                  name;
    ngx_vidgen_pointer_t       pointer;
} ngx_vidgen_keep_t;

/* how to read a provider's JSON: an answer or a webhook */
typedef struct {
    ngx_array_t                job_id;       /* of ngx_vidgen_pointer_t: the
                                                first present wins; likewise: */
    ngx_array_t                attempt;
    ngx_array_t                status;
    ngx_array_t                video_url;
    ngx_array_t                error;
    ngx_array_t                words;        /* of ngx_vidgen_word_t */
    ngx_vidgen_status_e        fixed_status; /* "status processing;" */
    ngx_str_t                 *api_key;      /* the provider's */
} ngx_vidgen_reading_t;

/* an HTTP request to the provider */
typedef struct {
    ngx_str_t                  method;
    ngx_vidgen_template_t      url;
    ngx_array_t                query;        /* of ngx_vidgen_field_t */
    ngx_array_t                headers;      /* of ngx_vidgen_field_t; besides
                                                the provider's own */
    ngx_array_t                body;         /* of ngx_vidgen_member_t */
    ngx_array_t               *origins;      /* of ngx_str_t: where a kept URL
                                                may lead; the provider's */
} ngx_vidgen_request_t;

typedef struct {
    ngx_vidgen_request_t       request;
    ngx_vidgen_reading_t       reading;
    ngx_array_t                accept;       /* of ngx_vidgen_condition_t */
    ngx_array_t                refuse;
    ngx_array_t                retry;
    ngx_array_t                keep;         /* of ngx_vidgen_keep_t */
    ngx_array_t                refused;      /* of ngx_uint_t: HTTP statuses,
                                                4 means 4xx */
    ngx_array_t                unknown;
    time_t                     estimated_time;   /* seconds; 0: not given */
    ngx_uint_t                 max_jobs;     /* 0: no bound */
    unsigned                   idempotent:1;
    unsigned                   webhook_url:1;    /* uses $vidgen_webhook_url */
} ngx_vidgen_submit_t;

typedef struct {
    ngx_vidgen_request_t       request;
    ngx_vidgen_reading_t       reading;
    ngx_array_t                accept;
    ngx_array_t                refuse;
    ngx_array_t                retry;
    ngx_array_t                keep;         /* for then */
    ngx_vidgen_request_t      *then;         /* NULL: one step */
    ngx_array_t                then_failed;  /* of ngx_uint_t */
} ngx_vidgen_poll_t;

typedef struct {
    ngx_vidgen_scheme_t        scheme;
    ngx_vidgen_reading_t       reading;
    ngx_vidgen_pointer_t      *challenge;    /* NULL: none */
    ngx_uint_t                 options;      /* status for OPTIONS; 0: 405 */
} ngx_vidgen_webhook_t;

typedef struct {
    ngx_vidgen_request_t       request;
    ngx_array_t                ok;           /* of ngx_uint_t; empty: 2xx */
} ngx_vidgen_probe_t;

typedef struct {
    ngx_str_t                  name;
    ngx_uint_t                 index;        /* order of definition, from 0 */
    uint32_t                   crc;          /* crc32 of the name */
    ngx_str_t                  base;         /* no final slash */
    ngx_str_t                  api_key;
    ngx_array_t                headers;      /* of ngx_vidgen_field_t */
    ngx_array_t                origins;      /* of ngx_str_t, URLs */
    ngx_vidgen_submit_t       *submit;       /* each NULL where not given */
    ngx_vidgen_poll_t         *poll;
    ngx_vidgen_webhook_t      *webhook;
    ngx_vidgen_probe_t        *probe;
    u_char                    *file;         /* where it was defined */
    ngx_uint_t                 line;
} ngx_vidgen_provider_t;

/* what a webhook or an answer said */
typedef struct {
    ngx_str_t                  job_id;       /* each empty where absent */
    ngx_str_t                  attempt;
    ngx_str_t                  word;         /* the provider's status word */
    ngx_str_t                  video_url;
    ngx_str_t                  error;
    ngx_vidgen_status_e        status;
    unsigned                   wildcard:1;   /* only "*" produced the status */
} ngx_vidgen_result_t;

/* providers: of ngx_vidgen_provider_t *.  NULL: none of that name. */
ngx_vidgen_provider_t *ngx_vidgen_provider_find(ngx_array_t *providers,
    ngx_str_t *name);
ngx_vidgen_provider_t *ngx_vidgen_provider_find_crc(ngx_array_t *providers,
    uint32_t crc);

/*
 * Reads json by the definition.  NGX_OK; NGX_DECLINED: job_id or video_url is
 * over its length or has control bytes (*reason); NGX_ERROR: no memory.  An
 * attempt that is no UUID counts as absent; error and word are cut to 1024 and
 * 64 bytes, their control bytes become spaces; an error that quotes the api_key
 * is left out.
 */
ngx_int_t ngx_vidgen_provider_read(ngx_vidgen_reading_t *reading,
    ngx_vidgen_json_t *json, ngx_pool_t *pool, ngx_vidgen_result_t *result,
    const char **reason);

/* 1: one of the conditions holds for json (refuse, retry) */
ngx_uint_t ngx_vidgen_provider_condition(ngx_array_t *conditions,
    ngx_vidgen_json_t *json, ngx_pool_t *pool);

/* 1: all of the conditions hold for json, also if there are none (accept) */
ngx_uint_t ngx_vidgen_provider_accepted(ngx_array_t *conditions,
    ngx_vidgen_json_t *json, ngx_pool_t *pool);

/* 1: the HTTP status is listed, itself or its class */
ngx_uint_t ngx_vidgen_provider_code(ngx_array_t *codes, ngx_uint_t code);

/*
 * Appends what keep (of ngx_vidgen_keep_t) names in json to pairs (of
 * ngx_vidgen_pair_t).  What is absent, over NGX_VIDGEN_URL_MAX or has control
 * bytes is left out.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vidgen_provider_keep(ngx_array_t *keep,
    ngx_vidgen_json_t *json, ngx_pool_t *pool, ngx_array_t *pairs);

/* Sets the values that the definition itself supplies: base and api_key. */
void ngx_vidgen_provider_source(ngx_vidgen_provider_t *provider,
    ngx_vidgen_source_t *source);

/*
 * Fills url with the query appended, from source.  Arguments whose variables
 * are empty are left out.  NGX_OK; NGX_DECLINED: a value cannot stand in a
 * URL, it is over NGX_VIDGEN_URL_MAX, or it is a kept URL that leads
 * elsewhere; NGX_ERROR.
 */
ngx_int_t ngx_vidgen_provider_url(ngx_vidgen_request_t *request,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_str_t *url);

/*
 * Builds the JSON body; empty for a method that has none.  NGX_DECLINED: a
 * value is not of its type.
 */
ngx_int_t ngx_vidgen_provider_body(ngx_vidgen_request_t *request,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_str_t *body);

/*
 * Appends the headers, the provider's own and then the request's, to pairs
 * (of ngx_vidgen_pair_t).  The request's replace the provider's of the same
 * name, empty values are left out.  NGX_DECLINED: a control byte in a value.
 */
ngx_int_t ngx_vidgen_provider_headers(ngx_vidgen_provider_t *provider,
    ngx_vidgen_request_t *request, ngx_vidgen_source_t *source,
    ngx_pool_t *pool, ngx_array_t *pairs);

/*
 * The URL of a webhook for one attempt:
 * base?provider=NAME&attempt=UUID[&token=32 hex]; key NULL: no token.
 */
ngx_int_t ngx_vidgen_provider_webhook_url(ngx_str_t *base,
    ngx_vidgen_provider_t *provider, ngx_str_t *attempt,
    ngx_vidgen_key_t *key, ngx_pool_t *pool, ngx_str_t *url);

/* The 32 hex digits of the capability of an attempt. */
ngx_int_t ngx_vidgen_provider_token(ngx_vidgen_key_t *key, ngx_str_t *attempt,
    u_char token[32]);


#endif /* _NGX_VIDGEN_PROVIDER_H_INCLUDED_ */
