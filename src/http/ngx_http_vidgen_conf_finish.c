#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_conf_block.h"


static char *ngx_http_vidgen_conf_finish_request(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, const char *part);
static char *ngx_http_vidgen_conf_finish_submit(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
static char *ngx_http_vidgen_conf_finish_poll(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
static char *ngx_http_vidgen_conf_finish_webhook(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
static char *ngx_http_vidgen_conf_check_codes(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, ngx_vidgen_submit_t *submit);
static char *ngx_http_vidgen_conf_missing(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, const char *part, const char *knob);
static char *ngx_http_vidgen_conf_check_values(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
static char *ngx_http_vidgen_conf_check_webhook(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
static char *ngx_http_vidgen_conf_check_idempotent(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
static ngx_uint_t ngx_http_vidgen_conf_uses(ngx_array_t *fields,
    ngx_vidgen_value_e value);
static char *ngx_http_vidgen_conf_check_kept(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
static ngx_uint_t ngx_http_vidgen_conf_keeps(ngx_array_t *keeps,
    ngx_str_t *name);
static char *ngx_http_vidgen_conf_origins(ngx_conf_t *cf,
    ngx_vidgen_provider_t *provider);
static char *ngx_http_vidgen_conf_origin(ngx_conf_t *cf,
    ngx_vidgen_provider_t *provider, ngx_vidgen_request_t *request);


char *
ngx_http_vidgen_conf_finish_part(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    switch (block->part) {

    case NGX_HTTP_VIDGEN_SUBMIT_CONF:
        return ngx_http_vidgen_conf_finish_submit(cf, block);

    case NGX_HTTP_VIDGEN_POLL_CONF:
        return ngx_http_vidgen_conf_finish_poll(cf, block);

    case NGX_HTTP_VIDGEN_WEBHOOK_CONF:
        return ngx_http_vidgen_conf_finish_webhook(cf, block);

    default: /* NGX_HTTP_VIDGEN_PROBE_CONF */
        return ngx_http_vidgen_conf_finish_request(cf, block, "probe");
    }
}


static char *
ngx_http_vidgen_conf_missing(ngx_conf_t *cf, ngx_http_vidgen_block_t *block,
    const char *part, const char *knob)
{
    return ngx_http_vidgen_conf_error(cf, block->line,
               "\"%s\" of provider \"%V\" has no \"%s\"",
               part, &block->provider->name, knob);
}


static char *
ngx_http_vidgen_conf_finish_request(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, const char *part)
{
    if (block->request->url.text.data == NULL) {
        return ngx_http_vidgen_conf_missing(cf, block, part, "url");
    }

    if (block->body_line
        && ngx_strcmp(block->request->method.data, "POST") != 0)
    {
        return ngx_http_vidgen_conf_error(cf, block->body_line,
                   "\"body\" needs \"method POST\"");
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_finish_submit(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    ngx_vidgen_submit_t  *submit;

    submit = block->provider->submit;

    if (ngx_http_vidgen_conf_finish_request(cf, block, "submit")
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (submit->reading.job_id.nelts == 0) {
        return ngx_http_vidgen_conf_missing(cf, block, "submit", "job_id");
    }

    return ngx_http_vidgen_conf_check_codes(cf, block, submit);
}


static char *
ngx_http_vidgen_conf_check_codes(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, ngx_vidgen_submit_t *submit)
{
    ngx_uint_t  i, j, *a, *b;

    a = submit->refused.elts;
    b = submit->unknown.elts;

    for (i = 0; i < submit->refused.nelts; i++) {
        for (j = 0; j < submit->unknown.nelts; j++) {

            if (a[i] == b[j]) {
                return ngx_http_vidgen_conf_error(cf, block->line,
                           "\"submit\" of provider \"%V\" has the same "
                           "status in \"refused\" and in \"unknown\"",
                           &block->provider->name);
            }
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_finish_poll(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    ngx_vidgen_poll_t  *poll;

    poll = block->provider->poll;

    if (ngx_http_vidgen_conf_finish_request(cf, block, "poll")
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (poll->reading.status.nelts == 0) {
        return ngx_http_vidgen_conf_missing(cf, block, "poll", "status");
    }

    if (poll->reading.video_url.nelts == 0) {
        return ngx_http_vidgen_conf_missing(cf, block, "poll", "video_url");
    }

    if (!block->poll_job) {
        return ngx_http_vidgen_conf_error(cf, block->line,
                   "\"poll\" of provider \"%V\" does not say which job: it "
                   "uses neither \"$vidgen_provider_job_id\" nor "
                   "\"$vidgen_attempt_id\" nor a kept value",
                   &block->provider->name);
    }

    if (poll->then) {
        poll->then->headers = poll->request.headers;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_finish_webhook(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    if (block->reading->status.nelts == 0) {
        return ngx_http_vidgen_conf_missing(cf, block, "webhook", "status");
    }

    return ngx_http_vidgen_conf_finish_signature(cf, block);
}


char *
ngx_http_vidgen_conf_finish_provider(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    ngx_vidgen_provider_t  *provider;

    provider = block->provider;

    if (!provider->submit && !provider->poll && !provider->webhook) {
        return ngx_http_vidgen_conf_error(cf, block->line,
                   "provider \"%V\" has none of \"submit\", \"poll\" and "
                   "\"webhook\"", &provider->name);
    }

    if (ngx_http_vidgen_conf_check_values(cf, block) != NGX_CONF_OK
        || ngx_http_vidgen_conf_check_webhook(cf, block) != NGX_CONF_OK
        || ngx_http_vidgen_conf_check_idempotent(cf, block) != NGX_CONF_OK
        || ngx_http_vidgen_conf_check_kept(cf, block) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (provider->submit && !provider->webhook && !provider->poll) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "vidgen: provider \"%V\" has neither \"webhook\" "
                           "nor \"poll\": its jobs will never end",
                           &provider->name);
    }

    return ngx_http_vidgen_conf_origins(cf, provider);
}


static char *
ngx_http_vidgen_conf_check_values(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    ngx_vidgen_provider_t  *provider;

    provider = block->provider;

    if (block->used[NGX_VIDGEN_VALUE_BASE] && provider->base.len == 0) {
        return ngx_http_vidgen_conf_error(cf,
                   block->used[NGX_VIDGEN_VALUE_BASE],
                   "provider \"%V\" uses \"$vidgen_base\" without \"base\"",
                   &provider->name);
    }

    if (block->used[NGX_VIDGEN_VALUE_API_KEY] && provider->api_key.len == 0) {
        return ngx_http_vidgen_conf_error(cf,
                   block->used[NGX_VIDGEN_VALUE_API_KEY],
                   "provider \"%V\" uses \"$vidgen_api_key\" without "
                   "\"api_key\"", &provider->name);
    }

    if (provider->submit) {
        provider->submit->webhook_url =
                      block->used[NGX_VIDGEN_VALUE_WEBHOOK_URL] > 0
                      || block->used[NGX_VIDGEN_VALUE_WEBHOOK_URL_ESCAPED] > 0;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_check_webhook(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    ngx_vidgen_submit_t   *submit;
    ngx_vidgen_webhook_t  *webhook;

    submit = block->provider->submit;
    webhook = block->provider->webhook;

    if (webhook == NULL) {
        return NGX_CONF_OK;
    }

    if (webhook->reading.job_id.nelts == 0
        && webhook->reading.attempt.nelts == 0
        && (submit == NULL || !submit->webhook_url))
    {
        return ngx_http_vidgen_conf_error(cf, block->webhook_line,
                   "\"webhook\" of provider \"%V\" does not say which job: "
                   "it has neither \"job_id\" nor \"attempt\", and "
                   "\"submit\" has no \"$vidgen_webhook_url\"",
                   &block->provider->name);
    }

    if (!webhook->scheme.token) {
        return NGX_CONF_OK;
    }

    /* a token stands in a URL of ours only, and proves nothing by itself */

    if (submit && !submit->webhook_url) {
        return ngx_http_vidgen_conf_error(cf, block->webhook_line,
                   "\"signature token\" of provider \"%V\" needs "
                   "\"$vidgen_webhook_url\" in \"submit\"",
                   &block->provider->name);
    }

    if (block->provider->poll == NULL) {
        return ngx_http_vidgen_conf_error(cf, block->webhook_line,
                   "\"signature token\" of provider \"%V\" needs a \"poll\" "
                   "that confirms its webhooks", &block->provider->name);
    }

    return NGX_CONF_OK;
}


/* the provider can only know the attempt again if it is told its id */

static char *
ngx_http_vidgen_conf_check_idempotent(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    ngx_uint_t             i;
    ngx_vidgen_member_t   *member;
    ngx_vidgen_request_t  *request;

    if (block->idempotent_line == 0) {
        return NGX_CONF_OK;
    }

    request = &block->provider->submit->request;

    if (ngx_http_vidgen_conf_uses(&block->provider->headers,
                                  NGX_VIDGEN_VALUE_ATTEMPT_ID)
        || ngx_http_vidgen_conf_uses(&request->headers,
                                     NGX_VIDGEN_VALUE_ATTEMPT_ID)
        || ngx_http_vidgen_conf_uses(&request->query,
                                     NGX_VIDGEN_VALUE_ATTEMPT_ID))
    {
        return NGX_CONF_OK;
    }

    member = request->body.elts;

    for (i = 0; i < request->body.nelts; i++) {
        if (member[i].value.uses
            & ((ngx_uint_t) 1 << NGX_VIDGEN_VALUE_ATTEMPT_ID))
        {
            return NGX_CONF_OK;
        }
    }

    return ngx_http_vidgen_conf_error(cf, block->idempotent_line,
               "\"idempotent\" needs \"$vidgen_attempt_id\" as the key, in a "
               "\"header\", \"query\" or \"body\"");
}


static ngx_uint_t
ngx_http_vidgen_conf_uses(ngx_array_t *fields, ngx_vidgen_value_e value)
{
    ngx_uint_t           i;
    ngx_vidgen_field_t  *field;

    field = fields->elts;

    for (i = 0; i < fields->nelts; i++) {
        if (field[i].value.uses & ((ngx_uint_t) 1 << value)) {
            return 1;
        }
    }

    return 0;
}


static char *
ngx_http_vidgen_conf_check_kept(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    ngx_uint_t               i;
    ngx_vidgen_provider_t   *provider;
    ngx_http_vidgen_kept_t  *kept;

    provider = block->provider;
    kept = block->kept.elts;

    for (i = 0; i < block->kept.nelts; i++) {

        if ((provider->submit
             && ngx_http_vidgen_conf_keeps(&provider->submit->keep,
                                           &kept[i].name))
            || (kept[i].then
                && ngx_http_vidgen_conf_keeps(&provider->poll->keep,
                                              &kept[i].name)))
        {
            continue;
        }

        return ngx_http_vidgen_conf_error(cf, kept[i].line,
                   "\"$vidgen_kept_%V\" has no \"keep %V\"",
                   &kept[i].name, &kept[i].name);
    }

    return NGX_CONF_OK;
}


static ngx_uint_t
ngx_http_vidgen_conf_keeps(ngx_array_t *keeps, ngx_str_t *name)
{
    ngx_uint_t          i;
    ngx_vidgen_keep_t  *keep;

    keep = keeps->elts;

    for (i = 0; i < keeps->nelts; i++) {
        if (ngx_vidgen_text_same(&keep[i].name, name)) {
            return 1;
        }
    }

    return 0;
}


/* where a kept URL may lead: to a host that the definition names itself */

static char *
ngx_http_vidgen_conf_origins(ngx_conf_t *cf, ngx_vidgen_provider_t *provider)
{
    ngx_str_t             *origin;
    ngx_uint_t             i;
    ngx_vidgen_request_t  *requests[4];

    requests[0] = provider->submit ? &provider->submit->request : NULL;
    requests[1] = provider->poll ? &provider->poll->request : NULL;
    requests[2] = provider->poll ? provider->poll->then : NULL;
    requests[3] = provider->probe ? &provider->probe->request : NULL;

    if (provider->base.len) {
        origin = ngx_http_vidgen_conf_push(cf, &provider->origins,
                                           sizeof(ngx_str_t));
        if (origin == NULL) {
            return NGX_CONF_ERROR;
        }

        *origin = provider->base;
    }

    for (i = 0; i < 4; i++) {
        if (requests[i]
            && ngx_http_vidgen_conf_origin(cf, provider, requests[i])
               != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_origin(ngx_conf_t *cf, ngx_vidgen_provider_t *provider,
    ngx_vidgen_request_t *request)
{
    ngx_str_t  *origin;

    request->origins = &provider->origins;

    if (ngx_vidgen_url_origin(&request->url.text) == 0) {
        return NGX_CONF_OK;              /* begins with a variable */
    }

    origin = ngx_http_vidgen_conf_push(cf, &provider->origins,
                                       sizeof(ngx_str_t));
    if (origin == NULL) {
        return NGX_CONF_ERROR;
    }

    *origin = request->url.text;

    return NGX_CONF_OK;
}
