package VidgenTest::Http;

# A small HTTP client.
#
#   my $answer = request('POST', $url, { 'X-A' => 'b' }, $body);
#   my @answers = many(200, 'POST', $url, \%headers, $body);
#
# An answer is { status, reason, headers (lower-case names), body, time, json
# (the body's data, if it is JSON) }; with no answer at all status is 0 and
# error says why.  The last argument may be options: timeout (30 s).

use strict;
use warnings;

use Exporter qw(import);
use File::Temp ();
use IO::Socket::INET;
use JSON::PP;
use Time::HiRes qw(time);

use VidgenTest::Http::Message;
use VidgenTest::Loop;
use VidgenTest::Stream;
use VidgenTest::Util qw(patience);

our @EXPORT_OK = qw(get http2 leave many post raw request send_request
    send_together wait_answer);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;


sub get { my ($url, @rest) = @_; return request('GET', $url, @rest) }

# Data becomes JSON.
sub post {
    my ($url, $body, $headers, @rest) = @_;
    $body = $json->encode($body) if ref $body;
    $headers = { 'Content-Type' => 'application/json', %{ $headers // {} } };
    return request('POST', $url, $headers, $body, @rest);
}

sub request {
    my ($method, $url, $headers, $body, %opt) = @_;
    return wait_answer(send_request($method, $url, $headers, $body, %opt));
}


# Sends a request and returns a handle at once, for wait_answer() or leave().
sub send_request {
    my ($method, $url, $headers, $body, %opt) = @_;

    my ($address, $bytes)
        = VidgenTest::Http::Message::request($method, $url, $headers, $body);
    my $loop = VidgenTest::Loop->new;
    my $call = _call($loop, $address, $method, %opt);
    $call->{stream}->send($bytes);
    $call->{began} = time;
    $loop->run(sub { $call->{stream}{out} eq '' }, _timeout(%opt));
    return $call;
}

sub wait_answer {
    my ($call) = @_;
    my $loop = $call->{stream}{loop};
    $loop->run(sub { $call->{answer} }, _timeout(%$call));
    return _finish($call);
}

# The client goes away, with a reset if asked so.
sub leave {
    my ($call, $reset) = @_;
    $reset ? $call->{stream}->reset : $call->{stream}->close;
}


# Sends $n times the same request, each on a connection of its own, all at the
# same moment: the last byte leaves when all others are there.  Or requests
# that differ: many([method, url, headers, body], ...).  Answers in order.
sub many { return map { wait_answer($_) } send_together(@_) }

# The same, but returns handles at once, for wait_answer().
sub send_together {
    my @requests = ref $_[0] ? @_ : do {
        my ($n, @request) = @_;
        ([@request]) x $n;
    };

    my $loop = VidgenTest::Loop->new;
    my @calls;

    for my $request (@requests) {
        my ($address, $bytes)
            = VidgenTest::Http::Message::request(@$request[0 .. 3]);
        my $call = _call($loop, $address, $request->[0]);
        $call->{last} = chop $bytes;
        $call->{stream}->send($bytes);
        push @calls, $call;
    }

    my $sent = sub {
        !grep { $_->{stream}{out} ne '' && !$_->{answer} } @calls };
    $loop->run($sent, _timeout());

    for my $call (@calls) {
        $call->{began} = time;
        $call->{stream}->send($call->{last});
    }
    $loop->run($sent, _timeout());

    return @calls;
}


# Sends bytes as they are and returns all that comes back until the server
# closes; options: timeout, half (true: close our side after sending).
sub raw {
    my ($url, $bytes, %opt) = @_;

    my ($address) = $url =~ m{^(?:http://)?([^/]+)};
    my $loop = VidgenTest::Loop->new;
    my $stream = VidgenTest::Stream->connect($loop, $address);
    $stream->send($bytes);
    if ($opt{half}) {
        $loop->run(sub { $stream->{out} eq '' }, _timeout(%opt));
        shutdown $stream->{socket}, 1;
    }
    $loop->run(sub { $stream->{ended} }, _timeout(%opt));
    $stream->close;
    return $stream->{in};
}


# Over HTTP/2 without TLS.
sub http2 {
    my ($method, $url, $headers, $body, %opt) = @_;

    my @command = ('curl', '-sS', '-i', '--http2-prior-knowledge', '-m',
        _timeout(%opt), '-X', $method,
        map { ('-H', "$_: $headers->{$_}") } sort keys %{ $headers // {} });
    my $file = File::Temp->new;         # a command line has its limits
    if (defined $body) {
        print $file $body;
        close $file;
        push @command, '--data-binary', "\@$file";
    }

    my $began = time;
    open my $out, '-|', @command, $url or die "curl: $!";
    my $text = do { local $/; <$out> } // '';
    local $?;
    close $out;

    my $answer = VidgenTest::Http::Message::take_response(\$text, 1);
    return _complete($answer, $began);
}


# ---- inside ----------------------------------------------------------------

sub _timeout { my (%opt) = @_; return ($opt{timeout} // 30) * patience() }

sub _call {
    my ($loop, $address, $method, %opt) = @_;

    my $call = { timeout => $opt{timeout} };
    my $take = sub {
        my ($stream, $ended) = @_;
        return if $call->{answer};
        my $answer = VidgenTest::Http::Message::take_response(
            \$stream->{in}, $ended, $method eq 'HEAD');
        $answer //= _no_answer($stream->{error} // 'closed') if $ended;
        $call->{answer} = $answer or return;
        $call->{ended} = time;
        $stream->close;
    };

    $call->{stream} = VidgenTest::Stream->connect($loop, $address,
        on_data => sub { $take->($_[0], 0) },
        on_end  => sub { $take->($_[0], 1) });
    return $call;
}

sub _finish {
    my ($call) = @_;
    $call->{stream}->close;
    return _complete($call->{answer}, $call->{began}, $call->{ended});
}

sub _complete {
    my ($answer, $began, $ended) = @_;
    $answer //= _no_answer('timeout');
    $answer->{time} = ($ended // time) - ($began // time);
    $answer->{json} = eval { $json->decode($answer->{body}) }
        if $answer->{body} =~ /^\s*[\[{]/;
    return $answer;
}

sub _no_answer {
    my ($error) = @_;
    return { status => 0, reason => '', headers => {}, body => '',
        error => $error };
}


1;
