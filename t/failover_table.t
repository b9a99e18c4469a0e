#!/usr/bin/perl

# What each answer of a provider means for the next one: how often each is
# asked, what the client is told, and what is written down.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Jobs qw(attempts job moves);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Sql;

# The first provider's answer and its attempt (state, HTTP status, reason);
# then what becomes of the generation: "next" is asked and accepts, or the
# status and code that the client is told.
my %date = ('Retry-After' => 'Fri, 31 Dec 2100 23:59:59 GMT');
my @cases = (
    # the provider says that it failed
    [{ status => 500 }, 'refused 500 http_500', 'next'],
    [{ status => 501 }, 'refused 501 http_501', 'next'],
    [{ status => 503 }, 'refused 503 http_503', 'next'],
    [{ status => 503, headers => { 'Retry-After' => 60 } },
        'refused 503 http_503', 'next'],
    [{ status => 507, body => '<p>full</p>' }, 'refused 507 http_507',
        'next'],
    [{ body => { busy => 1 } }, 'refused 200 http_503', 'next'],

    # a gateway before it did not get its answer
    [{ status => 408 }, 'unknown 408 http_408', 'next'],
    [{ status => 502 }, 'unknown 502 http_502', 'next'],
    [{ status => 504 }, 'unknown 504 http_504', 'next'],
    [{ status => 520, body => '' }, 'unknown 520 http_520', 'next'],
    [{ status => 524 }, 'unknown 524 http_524', 'next'],
    [{ status => 529 }, 'unknown 529 http_529', 'next'],

    # too many requests
    [{ status => 429 }, 'refused 429 http_429', 'next'],
    [{ status => 429, headers => { 'Retry-After' => 60 } },
        'refused 429 http_429', 'next'],
    [{ status => 429, headers => \%date }, 'refused 429 http_429', 'next'],
    [{ status => 429, headers => { 'Retry-After' => 'soon' } },
        'refused 429 http_429', 'next'],

    # the content is refused
    (map { [{ status => $_ }, "refused $_ http_$_", "422 provider_refused"] }
        400, 413, 415, 422, 451),
    [{ body => { refused => 1 } }, 'refused 200 http_422',
        '422 provider_refused'],

    # we are, or it is nonsense
    (map { [{ status => $_ }, "refused $_ http_$_", "502 provider_failed"] }
        401, 402, 403, 404, 405, 409, 410, 418, 300, 301, 302, 307, 399),

    # probably billed
    [{ body => {} }, 'unknown 200 invalid_answer', '202 '],
    [{ body => 'accepted' }, 'unknown 200 invalid_answer', '202 '],
    [{ body => '' }, 'unknown 200 invalid_answer', '202 '],
    [{ body => "\x1f\x8b\x08garbage" }, 'unknown 200 invalid_answer', '202 '],
    [{ body => [] }, 'unknown 200 invalid_answer', '202 '],
    [{ body => { request_id => '' } }, 'unknown 200 invalid_answer', '202 '],
    [{ body => { request_id => "a\tb" } }, 'unknown 200 invalid_answer',
        '202 '],
    [{ status => 202, body => {} }, 'unknown 202 invalid_answer', '202 '],
    [{ status => 204, body => '' }, 'unknown 204 invalid_answer', '202 '],
    [{ drop => 'middle' }, 'unknown 200 invalid_answer', '202 '],

    # accepted
    [{}, 'accepted 200 -', '200 '],
    [{ status => 201, body => { request_id => 'id-201' } },
        'accepted 201 -', '200 '],
    [{ status => 202, body => { request_id => 202 } }, 'accepted 202 -',
        '200 '],
    [{ status => 299, body => { request_id => 'id-299', refused => undef,
        busy => 0 } }, 'accepted 299 -', '200 '],

    # a definition that says otherwise
    [{ status => 502 }, 'refused 502 http_502', 'next', 'refused 502'],
    [{ status => 418 }, 'unknown 418 http_418', '202 ', 'unknown 418'],
    [{ status => 500 }, 'unknown 500 http_500', 'next', 'unknown 5xx'],
    [{ status => 422 }, 'unknown 422 http_422', '202 ', 'unknown 422'],
);

plan tests => 7 * @cases + 1;

# a provider for each, so that none is remembered for its failures

my $providers = '';
my $locations = '';

for my $i (0 .. $#cases) {
    my $more = $cases[$i][3] ? "$cases[$i][3];" : '';
    $providers .= <<"EOT";
vidgen_provider case-$i {
    base %%FIRST%%;
    submit {
        url      \$vidgen_base/case-$i;
        job_id   /request_id;
        refuse   /refused 1;
        retry    /busy 1;
        $more
    }
}
EOT
    $locations .= "location = /$i { vidgen_generate case-$i second; }\n";
}

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $first = VidgenTest::Provider->new;
my $second = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars  => { DB => $pg->edge_conninfo, FIRST => $first->url,
        SECOND => $second->url },
    files => { 'providers.conf' => $providers,
        'locations.conf' => $locations },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";
    include         providers.conf;

    vidgen_provider second {
        base %%SECOND%%;
        submit {
            url     $vidgen_base/second;
            job_id  /request_id;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        include                       locations.conf;
    }
}
EOT

my $db = VidgenTest::Sql->new($pg);
my $user = customer($db, 1000);
my $balance = 1000;

for my $i (0 .. $#cases) {
    my ($answers, $attempt, $outcome) = @{ $cases[$i] };
    my $next = $outcome eq 'next';
    my $name = "case $i: $attempt";

    $_->forget for $first, $second;
    $first->next(%$answers);

    my $answer = post($nginx->url("/$i"), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    my $job = $answer->{json}{job_id};
    my ($state, $status, $reason) = split / /, $attempt;
    my $held = $next || $outcome =~ /^20/;
    $balance-- if $held;

    is("$answer->{status} " . ($answer->{json}{code} // ''),
        $next ? '200 ' : $outcome, "$name: the answer");
    is($answer->{json}{provider} // '-', $next ? 'second'
        : $held ? "case-$i" : '-', "$name: the provider");
    is(@{ $first->requests } . ' ' . @{ $second->requests },
        $next ? '1 1' : '1 0', "$name: the requests");
    is(attempts($db, $job), "case-$i $attempt"
        . ($next ? ', second accepted 200 -' : ''), "$name: the attempts");
    is(moves($db, $job), $next ? "case-$i second $reason" : '',
        "$name: the failover log");
    is(job($db, $job), join(' ', $state eq 'unknown' ? 'processing'
        : $held ? 'queued' : 'failed', $next ? ('second', 2, $reason)
        : ("case-$i", 1, '-')), "$name: the job");
    is(ledger($db, $job) . ' ' . balance($db, $user),
        ($held ? 'hold 1' : 'hold 1, refund 1') . " $balance",
        "$name: the credits");
}

is_deeply([wrong_books($db)], [], 'the books are right');
